// Reading ECS documents: nested objects, addressed by dotted names.
export type Value = string | number | boolean | null | Value[] | { [key: string]: Value };
export type Document = Record<string, unknown>;

/** The value of a dotted name; a name may also lie flat, whole or in part. */
export function at(document: unknown, path: string): unknown {
  if (typeof document !== "object" || document === null) return undefined;
  const object = document as Document;
  if (path in object) return object[path];
  for (let dot = path.indexOf("."); dot > 0; dot = path.indexOf(".", dot + 1)) {
    const head = path.slice(0, dot);
    if (head in object) {
      const found = at(object[head], path.slice(dot + 1));
      if (found !== undefined) return found;
    }
  }
  return undefined;
}

/** Every leaf by its dotted name, in order. */
export function leaves(document: unknown, prefix = ""): [string, unknown][] {
  if (typeof document !== "object" || document === null || Array.isArray(document)) return [[prefix, document]];
  return Object.entries(document)
    .flatMap(([name, value]) => leaves(value, prefix ? `${prefix}.${name}` : name))
    .sort(([a], [b]) => (a < b ? -1 : 1));
}

/** A value as it is shown and copied. */
export function shown(value: unknown): string {
  if (value === undefined || value === null) return "";
  if (typeof value === "string") return value;
  if (Array.isArray(value) && value.every((one) => typeof one !== "object")) return value.join(", ");
  return JSON.stringify(value);
}

/** `field:"value"` of the search language. */
export function term(field: string, value: unknown): string {
  const first = Array.isArray(value) ? value[0] : value;
  if (typeof first === "number" || typeof first === "boolean") return `${field}:${first}`;
  return `${field}:"${String(first).replace(/[\\"]/g, "\\$&")}"`;
}
