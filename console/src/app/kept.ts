// What this browser remembers of its user's taste: language, theme, columns. Nothing of the session, nothing secret.
const PREFIX = "sakimori.";

export function kept(name: string): string | undefined {
  try {
    return localStorage.getItem(PREFIX + name) ?? undefined;
  } catch {
    return undefined; // a browser that keeps nothing
  }
}

export function keep(name: string, value: string) {
  try {
    localStorage.setItem(PREFIX + name, value);
  } catch {
    // it works without
  }
}
