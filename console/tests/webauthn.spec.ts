// What passkeys pass between manager and browser, and for which addresses there are any. No browser is needed.
import { expect, test } from "@playwright/test";
import { base64url, bytes, creation, isNumber, isOwnNumber, request } from "../src/app/webauthn";

test("bytes go to base64url and back, whatever they are", () => {
  for (let length = 0; length < 70; length++) {
    const some = Uint8Array.from({ length }, (_, at) => (at * 97 + length * 31) % 256);
    const written = base64url(some.buffer);
    expect(written).toBe(Buffer.from(some).toString("base64url"));
    expect(bytes(written)).toEqual(some);
  }
  expect(bytes("-_-_")).toEqual(Uint8Array.from([0xfb, 0xff, 0xbf]));
  expect(() => bytes("?")).toThrow();
});

test("a browser is asked what the manager asks", () => {
  const asked = creation({
    challenge: "AQID", rp: { id: "sakimori.example", name: "Sakimori" }, user: { id: "BAU", name: "alice", displayName: "alice" },
    pubKeyCredParams: [{ type: "public-key", alg: -7 }], timeout: 300_000, excludeCredentials: [{ type: "public-key", id: "Bgc" }],
    authenticatorSelection: { residentKey: "required", requireResidentKey: true, userVerification: "required" }, attestation: "none",
  });
  expect(asked).toEqual({
    challenge: Uint8Array.from([1, 2, 3]), rp: { id: "sakimori.example", name: "Sakimori" }, user: { id: Uint8Array.from([4, 5]), name: "alice", displayName: "alice" },
    pubKeyCredParams: [{ type: "public-key", alg: -7 }], timeout: 300_000, excludeCredentials: [{ type: "public-key", id: Uint8Array.from([6, 7]) }],
    authenticatorSelection: { residentKey: "required", requireResidentKey: true, userVerification: "required" }, attestation: "none",
  });
  expect(request({ challenge: "AQID", rpId: "sakimori.example", timeout: 1, userVerification: "required" })).toEqual({
    challenge: Uint8Array.from([1, 2, 3]), rpId: "sakimori.example", timeout: 1, userVerification: "required",
  });
});

test("passkeys are for names", () => {
  for (const number of ["127.0.0.1", "192.0.2.1", "[::1]", "[2001:db8::1]"]) expect(isNumber(number), number).toBe(true);
  for (const name of ["localhost", "sakimori.example", "127.example", "1.2.3.4.example"]) expect(isNumber(name), name).toBe(false);
  expect(["127.0.0.1", "[::1]", "192.0.2.1", "127.example", "localhost"].map(isOwnNumber)).toEqual([true, true, false, false, false]);
});
