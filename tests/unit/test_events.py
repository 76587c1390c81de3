"""The tables of events and reasons: complete on both sides, and the mappings between them."""

import re
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from evidence.model.cardinality import faults
from evidence.model.events import (
    KEP_KINDS,
    KIND_BY_ERDS,
    KIND_BY_TS,
    NAMES,
    REM_BASELINE_KINDS,
    TS_KINDS,
    EvidenceKind,
)
from evidence.model.reasons import (
    ERDS_BY_NAME,
    ERDS_FAILURE,
    ERDS_OTHER,
    ERDS_REASON_PREFIX,
    ERDS_REASONS,
    ERDS_SUCCESS,
    REASON_BY_NAME,
    REASON_NAMES,
    TS_REASON_PREFIX,
    Reason,
    ReasonCode,
    erds_row,
    from_erds,
    from_ts,
    shown,
    success_row,
    to_erds,
    to_ts,
)
from evidence.model.records import Authentication, Party, Profile, file_stem
from tests.support.erds_samples import OTHER, SHARED, full, schemas
from tests.support.evidence_samples import AT, METHOD

KINDS = list(EvidenceKind)
CODES = list(ReasonCode)
ERDS_EVENTS = {
    "A.1": "SubmissionAcceptance",
    "A.2": "SubmissionRejection",
    "B.1": "RelayAcceptance",
    "B.2": "RelayRejection",
    "B.3": "RelayFailure",
    "C.1": "NotificationForAcceptance",
    "C.2": "NotificationForAcceptanceFailure",
    "C.3": "ConsignmentAcceptance",
    "C.4": "ConsignmentRejection",
    "C.5": "AcceptanceRejectionExpiry",
    "D.1": "ContentConsignment",
    "D.2": "ContentConsignmentFailure",
    "D.3": "ConsignmentNotification",
    "D.4": "ConsignmentNotificationFailure",
    "E.1": "ContentHandover",
    "E.2": "ContentHandoverFailure",
    "F.1": "RelayToNonERDS",
    "F.2": "RelayToNonERDSFailure",
    "F.3": "ReceivedFromNonERDS",
}


# ----------------------------------------------------------------- events


def test_every_kind_has_its_names():
    assert set(NAMES) == set(EvidenceKind)
    for names in NAMES.values():
        assert names.event
        assert names.turkish
        assert names.english


def test_every_event_of_the_european_standard_has_a_kind():
    assert {names.erds_code: names.erds_event for names in NAMES.values()} == ERDS_EVENTS
    assert set(KIND_BY_ERDS) == set(ERDS_EVENTS.values())
    for event, kind in KIND_BY_ERDS.items():
        assert NAMES[kind].erds_event == event


@pytest.mark.shared
def test_every_root_of_the_ts_schema_has_a_kind_and_no_other_is_used():
    text = (SHARED / "schemas" / "rem" / "xsd" / "TS102640_v2.xsd").read_text()
    roots = set(re.findall(r'<xs:element name="(\w+)" type="rem:REMEvidenceType"/>', text))
    assert len(roots) == 9
    assert {NAMES[kind].root for kind in TS_KINDS} == roots
    assert schemas().load("TS102640_v2.xsd") is not None


def test_root_and_code_lead_back_to_the_kind():
    for kind in TS_KINDS:
        assert KIND_BY_TS[NAMES[kind].root, NAMES[kind].event_code] is kind
    assert {kind for kind in EvidenceKind if kind not in TS_KINDS} == {
        KIND_BY_ERDS[ERDS_EVENTS[code]] for code in ("C.1", "C.2", "C.5", "D.3", "D.4")
    }


def test_only_download_and_retrieval_share_an_event():
    shared = {kind for kind in EvidenceKind if KIND_BY_ERDS[NAMES[kind].erds_event] is not kind}
    assert shared == {EvidenceKind.DOWNLOAD, EvidenceKind.NON_DOWNLOAD}


def test_the_kep_numbers_are_the_laws_and_ours_are_never_shown_as_such():
    assert {kind.kep_code for kind in KEP_KINDS} == {10, 11, 20, 21, 31, 40, 41, 60, 61}
    assert all(kind.value > 900 and kind.kep_code is None for kind in set(EvidenceKind) - KEP_KINDS)
    assert KEP_KINDS <= TS_KINDS


def test_the_baseline_is_exactly_these_events():
    assert {NAMES[kind].erds_code for kind in REM_BASELINE_KINDS} == {
        "A.1", "A.2", "B.1", "B.2", "B.3", "D.1", "D.2",
    }  # fmt: skip


def test_file_names_of_all_kinds_differ():
    assert len({file_stem(kind, None) for kind in EvidenceKind}) == len(EvidenceKind)
    assert file_stem(EvidenceKind.DOWNLOAD, 2) == "901-Download-2"


# ----------------------------------------------------------------- reasons


def test_the_ts_reasons_are_numbered_1_to_22():
    assert [code.value for code in ReasonCode] == list(range(1, 23))
    assert set(REASON_NAMES) == set(ReasonCode)
    assert set(REASON_BY_NAME.values()) == set(ReasonCode)


def test_every_erds_reason_is_used_or_is_known_by_name():
    assert len({row.name for row in ERDS_REASONS.values()}) == len(ERDS_REASONS)
    assert set(ERDS_BY_NAME.values()) == set(ERDS_REASONS.values())
    assert {row.code for row in ERDS_REASONS.values()} == {
        "RA01", "RA02", "RA03", "RA04", "RA05",
        "RB01", "RB02", "RB03", "RB04", "RB05", "RB06", "RB07", "RB08", "RB09", "RB10", "RB21", "RB22",
        "RC01", "RC02", "RC03", "RC04", "RC05", "RC06", "RC07", "RC08", "RC09",
        "RD01", "RD02", "RD03", "RD04", "RD05", "RD06", "RD21",
        "RE01", "RE02", "RE03", "RE04",
        "RF01", "RF02", "RF03", "RF04", "RXXX",
    }  # fmt: skip


def test_every_success_has_a_reason_in_the_european_form_and_no_failure_has_one():
    assert set(ERDS_SUCCESS) == {kind for kind, names in NAMES.items() if not names.negative}
    for kind, code in ERDS_SUCCESS.items():
        row = ERDS_REASONS[code]
        assert row is ERDS_OTHER or (row.reason is None and row.code[1] == NAMES[kind].family)
    assert success_row(EvidenceKind.NON_DELIVERY, delegated=False) is None
    assert success_row(EvidenceKind.DELIVERY, delegated=True) == ERDS_REASONS["RD02"]
    assert success_row(EvidenceKind.RETRIEVAL, delegated=True) == ERDS_REASONS["RE02"]


def test_both_directions_of_the_reason_mapping_agree():
    for (kind, code), erds in ERDS_FAILURE.items():
        row = ERDS_REASONS[erds]
        assert row.reason is code
        assert NAMES[kind].negative
        assert row.code[1] == NAMES[kind].family


@pytest.mark.parametrize(
    ("erds", "number"),
    [("RA02", 1), ("RA03", 2), ("RA04", 4), ("RA05", 5), ("RB02", 1), ("RB03", 2), ("RB04", 22), ("RB05", 22),
     ("RB06", 5), ("RB07", 6), ("RB08", 7), ("RB09", 8), ("RB10", 10), ("RB21", 10), ("RB22", 9), ("RC03", 12),
     ("RC04", 12), ("RC05", 12), ("RC06", 12), ("RC08", 14), ("RC09", 15), ("RD03", 9), ("RD04", 11),
     ("RD05", 12), ("RD06", 13), ("RD21", 10), ("RE03", 13), ("RE04", 15), ("RF02", 16), ("RF03", 18),
     ("RXXX", 22)],
)  # fmt: skip
def test_each_european_reason_stands_for_this_ts_reason(erds, number):
    assert ERDS_REASONS[erds].reason == number


NEGATIVE = [kind for kind in EvidenceKind if NAMES[kind].negative]


@pytest.mark.parametrize("kind", NEGATIVE, ids=lambda kind: kind.name)
@pytest.mark.parametrize("code", CODES, ids=lambda code: code.name)
def test_any_ts_reason_survives_both_forms_in_any_event(kind, code):
    for reason in (Reason(code), Reason(code, "metin: ayrıntı")):
        uri, details = to_erds(kind, reason)
        assert uri.startswith(ERDS_REASON_PREFIX)
        assert details[0] in ERDS_REASONS
        assert len(details) > 1
        assert from_erds(kind, uri, details) == reason
        uri, text = to_ts(kind, reason)
        assert uri == TS_REASON_PREFIX + REASON_NAMES[code]
        assert from_ts(kind, uri, text) == reason


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("erds", sorted(ERDS_REASONS))
def test_any_european_reason_survives_both_forms_in_any_event(kind, erds):
    row = ERDS_REASONS[erds]
    read = from_erds(kind, ERDS_REASON_PREFIX + row.name, (row.code, row.text))
    if read is None:
        assert not NAMES[kind].negative
        assert ERDS_SUCCESS[kind] == erds
        return
    assert read.code == (row.reason or ReasonCode.OTHER)
    uri, details = to_erds(kind, read)
    assert (uri, details[0]) == (ERDS_REASON_PREFIX + row.name, row.code)
    assert from_erds(kind, uri, details) == read
    stated = to_ts(kind, read)
    if row.reason is None:
        assert stated is None  # TS states no success
    else:
        assert from_ts(kind, *stated) == read


def test_the_european_code_stands_in_front_of_the_ts_details():
    broken = Reason(ReasonCode.OTHER, "", "RB04")
    assert to_ts(EvidenceKind.RELAY_REJECTION, broken) == (
        "http:uri.etsi.org/REM/EventReason#Other",
        "RB04: Rejected by R-ERDSP: invalid ERDS signature",
    )
    full_box = Reason(ReasonCode.MAILBOX_FULL, "kota")
    assert to_ts(EvidenceKind.NON_DELIVERY, full_box)[1] == "RD04: kota"
    assert to_ts(EvidenceKind.SUBMISSION_REJECTION, Reason(ReasonCode.OTHER, "metin"))[1] == "metin"


def test_a_peers_broken_seal_is_not_the_senders():
    row = erds_row(EvidenceKind.RELAY_REJECTION, Reason(ReasonCode.INVALID_USER_SIGNATURE))
    assert row is ERDS_OTHER
    unknown = Reason(ReasonCode.UNKNOWN_RECIPIENT)
    assert erds_row(EvidenceKind.RELAY_REJECTION, unknown).code == "RB21"
    assert erds_row(EvidenceKind.RELAY_FAILURE, unknown).code == "RB10"
    assert erds_row(EvidenceKind.NON_DELIVERY, unknown).code == "RD21"


@pytest.mark.parametrize(
    ("name", "details"),
    [
        ("S_ERDS_Malfunction", ("RA51", "Sistem arızası")),
        ("S_ERDS_Malfunction", ("RA51",)),
        ("RelayToNonERDSNotAllowed", ("RF51", "Not allowed")),
        ("NewReason", ("no code", "two", "three")),
        ("NewReason", ()),
        ("Other", ("RA77", "national")),
        ("Other", ("RA77",)),
        ("Other", ("RB04", "a known number under another name")),
        ("R_ERDS_Unreachable", ("RB99", "another edition's number")),
    ],
)
def test_national_codes_are_kept_on_every_way(name, details):
    kind = EvidenceKind.RELAY_FAILURE
    read = from_erds(kind, ERDS_REASON_PREFIX + name, details)
    uri, again = to_erds(kind, read)
    assert uri == ERDS_REASON_PREFIX + name
    assert from_erds(kind, uri, again) == read
    if details and details[0].startswith("R"):
        assert again[0] == details[0]
    back = from_ts(kind, *to_ts(kind, read))
    assert to_erds(kind, back)[0] == uri
    assert to_erds(kind, back)[1] == again


@pytest.mark.parametrize(
    ("uri", "code"),
    [
        ("http:uri.etsi.org/REM/EventReason#R_REMMD_NotIdenified", ReasonCode.R_REMMD_NOT_IDENTIFIED),
        ("http://uri.etXsi.org/REM/EventReason#MalwareFound", ReasonCode.MALWARE_FOUND),
        ("http:uri.etsi.org/REM/EventReason#AttachmentFormatNotAccepted", 13),
        ("http:uri.etsi.org/REM/EventReason#DuplicateMsgID", ReasonCode.POLICY_VIOLATION),
    ],
)
def test_misspelt_ts_reasons_are_understood(uri, code):
    assert from_ts(EvidenceKind.RELAY_FAILURE, uri, "") == Reason(ReasonCode(code))


def test_an_unknown_ts_reason_is_kept_as_it_was_written():
    uri = "http:uri.etsi.org/REM/EventReason#NewOne"
    read = from_ts(EvidenceKind.NON_DELIVERY, uri, "because")
    assert read == Reason(ReasonCode.OTHER, "because", "", uri)
    assert to_ts(EvidenceKind.NON_DELIVERY, read) == (uri, "because")
    assert to_erds(EvidenceKind.NON_DELIVERY, read)[1] == ("RXXX", "NewOne: because")


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        (Reason(ReasonCode.MAILBOX_FULL, "x"), "MailboxFull"),
        (Reason(ReasonCode.OTHER, "x", "RB04"), "Other (RB04)"),
        (Reason(ReasonCode.OTHER, "", "RA51", ERDS_REASON_PREFIX + "S_ERDS_Malfunction"), "S_ERDS_Malfunction (RA51)"),
        (Reason(ReasonCode.OTHER, "", "", TS_REASON_PREFIX + "NewOne"), "NewOne"),
        (Reason(ReasonCode.OTHER, "", "", "#/"), "Other"),
    ],
)  # fmt: skip
def test_people_see_the_name_the_issuer_gave(reason, text):
    assert shown(reason) == text


@example(details="RA01")  # the code of a success, as a peer's text
@given(details=st.text(max_size=60))
def test_no_details_of_a_peer_upset_the_reader(details):
    kind = EvidenceKind.NON_DELIVERY
    read = from_ts(kind, TS_REASON_PREFIX + "Other", details)
    assert from_ts(kind, *to_ts(kind, read)) == read
    other = from_erds(kind, details, (details, details))
    assert other is not None


# ----------------------------------------------------------------- cardinalities


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_complete_record_has_no_faults(kind):
    assert faults(full(kind), Profile.REM_BASELINE) == ()
    expected = () if kind in TS_KINDS else ("TS 102 640-2 has no such event",)
    assert faults(full(kind), Profile.KEP) == expected


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_one_recipient_is_named_exactly_where_the_event_is_about_one(kind):
    family = NAMES[kind].family
    for profile in Profile:
        with_index, without = (faults(full(kind, refers_to=index), profile) for index in (1, None))
        assert bool("it must name its recipient" in without) == (family in "CDE")
        assert bool("it concerns the message, not one recipient" in with_index) == (family in "AF")
        assert faults(full(kind, refers_to=3), profile)
        assert faults(full(kind, refers_to=0), profile)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_the_other_provider_and_the_other_system_stand_exactly_where_they_must(kind):
    names = NAMES[kind]
    for changes, wanted in (
        ({"other_party": None}, names.family == "B"),
        ({"other_party": OTHER}, names.family != "B"),
        ({"forwarded_to": None}, names.family == "F"),
        ({"forwarded_to": "mx.example"}, names.family != "F"),
        ({"covers": (1, 2)}, names.family != "B"),
        ({"reasons": ()}, names.negative),
        ({"reasons": (Reason(ReasonCode.OTHER, "", "RA01"),)}, names.negative),
        ({"reasons": (Reason(ReasonCode.MALWARE_FOUND),)}, not names.negative),
        ({"sender_authentication": None}, names.family == "A"),
        ({"sender_authentication": Authentication(AT, METHOD)}, names.erds_code == "F.3"),
        (
            {"recipient_authentication": Authentication(AT, METHOD)},
            names.erds_code not in {"C.3", "C.4", "E.1"},
        ),
    ):
        assert bool(faults(full(kind, **changes), Profile.REM_BASELINE)) == wanted, changes


def test_what_evidence_must_always_say():
    item = full(EvidenceKind.SUBMISSION_ACCEPTANCE)
    for broken in (
        replace(item, recipients=()),
        replace(item, evidence_id=""),
        replace(item, message=replace(item.message, kep_message_id="")),
        replace(item, issuer=replace(item.issuer, policy_id="")),
        replace(item, issuer=replace(item.issuer, name="")),
        replace(item, sender=Party("")),
        replace(item, recipients=(Party(""),)),
        replace(item, untrusted_path=(3,)),
    ):
        assert faults(broken, Profile.REM_BASELINE)
    relay = full(EvidenceKind.RELAY_ACCEPTANCE)
    assert faults(replace(relay, refers_to=1, covers=(1, 2)), Profile.REM_BASELINE)
    assert faults(replace(relay, covers=(1,)), Profile.KEP)
    assert not faults(replace(relay, covers=(1,)), Profile.REM_BASELINE)
