"""The style sheet of the dossier. Nothing from outside ever becomes part of it."""

from typing import Final

FONT_SCHEME: Final = "kephs-font"
"""URLs of fonts: the only ones that are fetched, from the font folder."""
FACES: Final = (
    ("Dossier Sans", "normal", "DejaVuSans.ttf"),
    ("Dossier Sans", "bold", "DejaVuSans-Bold.ttf"),
    ("Dossier Mono", "normal", "DejaVuSansMono.ttf"),
)
"""Family, weight, file of Debian's fonts-dejavu-core."""
TEXT_FILES: Final = ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf")
MONO_FILES: Final = ("DejaVuSansMono.ttf",)


def style() -> str:
    """Return the style sheet."""
    faces = "\n".join(
        f'@font-face {{ font-family: "{family}"; font-weight: {weight}; src: url("{FONT_SCHEME}:{file}"); }}'
        for family, weight, file in FACES
    )
    return faces + _RULES


_RULES: Final = """
@page {
  size: A4; margin: 29mm 18mm 22mm 22mm;
  @top-left { content: string(mid); font: 6.5pt "Dossier Mono"; color: #444; vertical-align: bottom;
              padding-bottom: 1.6mm; margin-bottom: 6mm; width: 62%; border-bottom: 0.4pt solid #999; }
  @top-right { content: string(part); font: 7pt "Dossier Sans"; color: #444; vertical-align: bottom;
               padding-bottom: 1.6mm; margin-bottom: 6mm; width: 38%; text-align: right;
               border-bottom: 0.4pt solid #999; }
  @bottom-left { content: string(maker); font: 7pt "Dossier Sans"; color: #444; vertical-align: top;
                 padding-top: 1.6mm; margin-top: 5mm; width: 72%; border-top: 0.4pt solid #999; }
}
@page tr { @bottom-right { content: "Sayfa " counter(page) " / " counter(pages); } }
@page en { @bottom-right { content: "Page " counter(page) " / " counter(pages); } }
@page { @bottom-right { font: 7pt "Dossier Sans"; color: #444; vertical-align: top; padding-top: 1.6mm;
                        margin-top: 5mm; width: 28%; text-align: right; border-top: 0.4pt solid #999; } }
@page tr-cover { @bottom-right { content: "Sayfa " counter(page) " / " counter(pages); } }
@page en-cover { @bottom-right { content: "Page " counter(page) " / " counter(pages); } }
@page tr-cover { margin-top: 20mm; @top-left { content: none; border: none; }
                 @top-right { content: none; border: none; } }
@page en-cover { margin-top: 20mm; @top-left { content: none; border: none; }
                 @top-right { content: none; border: none; } }
div.cover.tr { page: tr-cover; } div.cover.en { page: en-cover; }
html { font: 8.8pt/1.42 "Dossier Sans"; color: #111; font-variant-ligatures: none; hyphens: none; }
body { margin: 0; overflow-wrap: anywhere; }
section.tr { page: tr; } section.en { page: en; }
section.language { break-before: page; } section.language.first { break-before: auto; }
code { font-family: "Dossier Mono"; font-size: 0.92em; }
.mid { string-set: mid content(); } .maker { string-set: maker content(); }
.part { string-set: part content(); }
.running { height: 0; overflow: hidden; font-size: 1pt; color: white; position: relative; }
h1 { font-size: 25pt; line-height: 1.15; margin: 0 0 2mm; color: #14284b; string-set: part content(); }
h2 { font-size: 14pt; line-height: 1.2; margin: 0 0 3.5mm; padding-bottom: 1.2mm; color: #14284b;
     border-bottom: 1pt solid #14284b; break-before: page; break-after: avoid; string-set: part content(); }
h2.follows { break-before: auto; margin-top: 9mm; }
h3 { font-size: 10.2pt; line-height: 1.3; margin: 5mm 0 1.8mm; color: #14284b; break-after: avoid; }
h4 { font-size: 8.8pt; margin: 3.2mm 0 0.8mm; break-after: avoid; }
p { margin: 0 0 2mm; } p.lead { color: #333; margin-bottom: 3mm; }
p.about { font-size: 11.5pt; color: #333; margin: 0 0 9mm; }
.test { border: 1.2pt solid #a11; color: #a11; font-weight: bold; padding: 2mm 3mm; margin: 0 0 7mm;
        text-align: center; font-size: 9.5pt; }
.band { height: 3.5mm; background: #14284b; margin: 0 0 13mm; }
.face { border-left: 2.4pt solid #14284b; padding: 1mm 0 1mm 3.5mm; margin: 6mm 0 5mm; }
table { width: 100%; border-collapse: collapse; table-layout: fixed; margin: 0 0 3mm; }
td, th { text-align: left; vertical-align: top; padding: 1.1mm 1.8mm 1.1mm 0; font-weight: normal; }
table.facts th { width: 53mm; color: #555; }
table.facts td, table.facts th { border-bottom: 0.3pt solid #ccc; }
table.list { font-size: 7.8pt; }
table.list thead th { font-weight: bold; border-bottom: 0.8pt solid #14284b; }
table.list td { border-bottom: 0.3pt solid #ddd; } table.list tr { break-inside: avoid; }
table.list code { font-size: 0.84em; }
thead { display: table-header-group; }
.subject { font-weight: bold; font-size: 10pt; }
.contents { margin: 0 0 5mm; padding: 0; list-style: none; }
.contents li { margin: 0 0 1.1mm; } .contents a { color: #111; text-decoration: none; }
.contents a::after { content: leader(".") target-counter(attr(href), page); }
.event { break-inside: avoid; border-left: 2.4pt solid #7f93b8; padding: 0.4mm 0 0.4mm 3.2mm;
         margin: 0 0 3.4mm; }
.event.beside { border-left-style: dotted; } .event.negative { border-left-color: #a11; }
.event p { margin: 0 0 0.7mm; } .event .small { font-size: 7.4pt; color: #444; }
.event .label { font-weight: bold; }
.when { float: right; font-weight: bold; padding-left: 4mm; } .kind { font-weight: bold; }
.state { margin: 0 0 2mm; break-after: avoid; } .awaited { color: #555; margin: 0 0 3mm; }
.recipient { margin: 0 0 4mm; }
.body { border: 0.4pt solid #bbb; padding: 3mm 3.5mm; margin: 0 0 3mm; font-size: 8.4pt; }
p.line { margin: 0; white-space: pre-wrap; }
.command { background: #f0f2f6; padding: 1.6mm 2.4mm; margin: 0 0 2mm; font-size: 7.4pt; }
.command code { display: block; white-space: pre-wrap; }
.ok { color: #15602d; } .bad { color: #a11; font-weight: bold; }
.advice { break-inside: avoid; }
.c-no { width: 13mm; }
.c-time { width: 31mm; } .c-id { width: 40mm; } .c-evidence { width: 55mm; } .c-size { width: 24mm; }
.c-step { width: 14mm; }
.c-digest { width: 48mm; } .c-type { width: 34mm; } .c-result { width: 20mm; } .c-provider { width: 28mm; }
.c-state { width: 38mm; } .right { text-align: right; }
"""
