// Is a text an address or a network, as the manager takes them? It says so before anything is sent; the manager's word counts.

/** What is wrong: a key of the words, or nothing. */
export function networkFault(text: string): "form" | "prefix" | undefined {
  const [address = "", prefix, more] = text.split("/");
  if (more !== undefined) return "form";
  const bits = isFour(address) ? 32 : isSix(address) ? 128 : undefined;
  if (bits === undefined) return "form";
  if (prefix === undefined) return undefined;
  return /^\d{1,3}$/.test(prefix) && Number(prefix) <= bits ? undefined : "prefix";
}

function isFour(text: string) {
  const parts = text.split(".");
  return parts.length === 4 && parts.every((part) => /^(0|[1-9]\d{0,2})$/.test(part) && Number(part) <= 255);
}

function isSix(text: string) {
  if (!/^[0-9a-fA-F:.]+$/.test(text) || !text.includes(":")) return false;
  try {
    // The browser reads such addresses for hosts of URLs, in all their short forms.
    return new URL(`http://[${text}]/`).hostname.length > 2;
  } catch {
    return false;
  }
}
