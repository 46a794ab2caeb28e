// Passkeys between the manager's JSON and the browser: base64url, the options of both ceremonies, and what comes of them. The
// manager checks everything again. What is pure here is tested without a browser.
import { Problem, type Schemas } from "../api/client";
import type { Text } from "../i18n/words";

/** Bytes of base64url. */
export function bytes(text: string): Uint8Array<ArrayBuffer> {
  const plain = atob(text.replace(/-/g, "+").replace(/_/g, "/"));
  return Uint8Array.from(plain, (one) => one.charCodeAt(0));
}

/** base64url without padding. */
export function base64url(buffer: ArrayBuffer): string {
  let plain = "";
  for (const byte of new Uint8Array(buffer)) plain += String.fromCharCode(byte);
  return btoa(plain).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
}

/** Browsers make passkeys for names, never for numbers. */
export function isNumber(hostname: string): boolean {
  return hostname.startsWith("[") || /^\d+(\.\d+){3}$/.test(hostname);
}

/** Numbers of this machine itself, for which there is the name `localhost`. */
export function isOwnNumber(hostname: string): boolean {
  return hostname === "[::1]" || (isNumber(hostname) && hostname.startsWith("127."));
}

/** What `navigator.credentials.create` is called with. */
export function creation(options: Schemas["CreationOptions"]): PublicKeyCredentialCreationOptions {
  const known = (one: Schemas["KnownCredential"]) => ({ type: "public-key" as const, id: bytes(one.id) });
  const selection = options.authenticatorSelection;
  return {
    challenge: bytes(options.challenge),
    rp: options.rp,
    user: { ...options.user, id: bytes(options.user.id) },
    pubKeyCredParams: options.pubKeyCredParams.map(({ alg }) => ({ type: "public-key", alg: Number(alg) })),
    timeout: Number(options.timeout),
    excludeCredentials: options.excludeCredentials.map(known),
    authenticatorSelection: {
      residentKey: selection.residentKey as ResidentKeyRequirement,
      requireResidentKey: selection.requireResidentKey,
      userVerification: selection.userVerification as UserVerificationRequirement,
    },
    attestation: options.attestation as AttestationConveyancePreference,
  };
}

/** What `navigator.credentials.get` is called with. */
export function request(options: Schemas["RequestOptions"]): PublicKeyCredentialRequestOptions {
  return {
    challenge: bytes(options.challenge),
    rpId: options.rpId,
    timeout: Number(options.timeout),
    userVerification: options.userVerification as UserVerificationRequirement,
  };
}

function credential(found: Credential | null): PublicKeyCredential {
  if (!found) throw new DOMException("nothing was chosen", "NotAllowedError");
  return found as PublicKeyCredential;
}

/** Has the device make a passkey. */
export async function make(options: Schemas["CreationOptions"]): Promise<Schemas["MadeCredential"]> {
  const response = credential(await navigator.credentials.create({ publicKey: creation(options) })).response as AuthenticatorAttestationResponse;
  return { response: { clientDataJSON: base64url(response.clientDataJSON), attestationObject: base64url(response.attestationObject) } };
}

/** Has the device show a passkey. */
export async function use(options: Schemas["RequestOptions"]): Promise<Schemas["UsedCredential"]> {
  const found = credential(await navigator.credentials.get({ publicKey: request(options) }));
  const response = found.response as AuthenticatorAssertionResponse;
  return {
    id: found.id,
    response: {
      clientDataJSON: base64url(response.clientDataJSON),
      authenticatorData: base64url(response.authenticatorData),
      signature: base64url(response.signature),
      userHandle: response.userHandle ? base64url(response.userHandle) : undefined,
    },
  };
}

const CLIENT = 400;

/** What went wrong, in words: the manager's where it was the manager, else those for what a browser throws. */
export function told(error: unknown, text: Text): unknown {
  if (!(error instanceof DOMException)) return error;
  const kinds: Record<string, string> = { NotAllowedError: "stopped", AbortError: "stopped", InvalidStateError: "known", SecurityError: "address" };
  const kind = kinds[error.name] ?? "failed";
  return new Problem(CLIENT, `client/passkey-${kind}`, text(`passkey-${kind}`));
}
