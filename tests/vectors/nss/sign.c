/* Signs a file as Thunderbird signs a letter: NSS's CMS functions in the order in which nsCMSMessage::CreateSigned
 * calls them. Made p256.p7s with NSS 3.87 and a key on a SoftHSM token (TEST certificate).
 *
 * cc sign.c -o sign $(pkg-config --cflags --libs nss)
 * ./sign MODULE TOKEN PIN content p256.p7s
 * openssl cms -cmsout -inform DER -in p256.p7s -outform DER -out p256-der.p7s
 */
#include <nspr.h>
#include <stdio.h>
#include <string.h>
#include <cert.h>
#include <cms.h>
#include <keyhi.h>
#include <nss.h>
#include <pk11pub.h>
#include <prerror.h>
#include <secmod.h>
#include <smime.h>

#define CHECK(done) \
  do { \
    if (!(done)) { \
      fprintf(stderr, "%s: %s\n", #done, PR_ErrorToName(PR_GetError())); \
      return 1; \
    } \
  } while (0)

static char *pin;

static char *ask(PK11SlotInfo *slot, PRBool retry, void *arg) { return retry ? NULL : PORT_Strdup(pin); }

static void write_out(void *file, const char *data, unsigned long length) { fwrite(data, 1, length, (FILE *)file); }

int main(int count, char **argument) {
  char spec[512], content[65536];
  unsigned char digest[32];
  SECItem digest_item = {siBuffer, digest, sizeof digest};
  PK11SlotInfo *slot = NULL;
  CERTCertificate *certificate = NULL;
  CHECK(count == 6);
  pin = argument[3];
  CHECK(NSS_NoDB_Init(NULL) == SECSuccess);
  snprintf(spec, sizeof spec, "library=%s name=card", argument[1]);
  SECMODModule *module = SECMOD_LoadUserModule(spec, NULL, PR_FALSE);
  CHECK(module && module->loaded);
  PK11_SetPasswordFunc(ask);
  for (int i = 0; i < module->slotCount; i++)
    if (!strcmp(PK11_GetTokenName(module->slots[i]), argument[2])) slot = module->slots[i];
  CHECK(slot && PK11_Authenticate(slot, PR_TRUE, NULL) == SECSuccess);
  CERTCertList *list = PK11_ListCertsInSlot(slot);
  for (CERTCertListNode *n = CERT_LIST_HEAD(list); !CERT_LIST_END(n, list); n = CERT_LIST_NEXT(n))
    if (PK11_FindKeyByAnyCert(n->cert, NULL)) certificate = n->cert;
  CHECK(certificate);
  FILE *file = fopen(argument[4], "rb");
  CHECK(file);
  size_t length = fread(content, 1, sizeof content, file);
  fclose(file);
  CHECK(PK11_HashBuf(SEC_OID_SHA256, digest, (unsigned char *)content, length) == SECSuccess);

  NSSCMSMessage *message = NSS_CMSMessage_Create(NULL);
  NSSCMSSignedData *data = NSS_CMSSignedData_Create(message);
  NSSCMSContentInfo *info = NSS_CMSMessage_GetContentInfo(message);
  CHECK(NSS_CMSContentInfo_SetContent_SignedData(message, info, data) == SECSuccess);
  info = NSS_CMSSignedData_GetContentInfo(data);
  CHECK(NSS_CMSContentInfo_SetContent_Data(message, info, NULL, PR_TRUE) == SECSuccess);
  NSSCMSSignerInfo *signer = NSS_CMSSignerInfo_Create(message, certificate, SEC_OID_SHA256);
  CHECK(signer);
  CHECK(NSS_CMSSignerInfo_IncludeCerts(signer, NSSCMSCM_CertChain, certUsageEmailSigner) == SECSuccess);
  CHECK(NSS_CMSSignerInfo_AddSigningTime(signer, PR_Now()) == SECSuccess);
  CHECK(NSS_CMSSignerInfo_AddSMIMECaps(signer) == SECSuccess);
  CHECK(NSS_CMSSignedData_AddSignerInfo(data, signer) == SECSuccess);
  CHECK(NSS_CMSSignedData_SetDigestValue(data, SEC_OID_SHA256, &digest_item) == SECSuccess);
  file = fopen(argument[5], "wb");
  CHECK(file);
  NSSCMSEncoderContext *encoder =
      NSS_CMSEncoder_Start(message, write_out, file, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
  CHECK(encoder && NSS_CMSEncoder_Finish(encoder) == SECSuccess);
  return fclose(file);
}
