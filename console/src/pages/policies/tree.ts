// Reading and changing policy trees by dotted paths.
import type { Form, Tree } from "./Policies";

export function read(tree: Tree, path: string): unknown {
  return path.split(".").reduce<unknown>((at, name) => (at && typeof at === "object" && !Array.isArray(at) ? (at as Tree)[name] : undefined), tree);
}

/** A copy with one value set, or taken away where it is undefined; objects that become empty go too. */
export function write(tree: Tree, path: string, value: unknown): Tree {
  const [name, ...rest] = path.split(".") as [string, ...string[]];
  const copy = { ...tree };
  if (rest.length === 0) {
    if (value === undefined) delete copy[name];
    else copy[name] = value;
    return copy;
  }
  const inner = copy[name];
  const below = write(inner && typeof inner === "object" && !Array.isArray(inner) ? (inner as Tree) : {}, rest.join("."), value);
  if (Object.keys(below).length === 0) delete copy[name];
  else copy[name] = below;
  return copy;
}

/** Is it a group of settings, not a setting? */
export const isGroup = (form: Form) => form.type === "object" && form.properties !== undefined;

/** Every setting below a form, by its path. */
export function settings(form: Form, above = ""): [string, Form][] {
  return Object.entries(form.properties ?? {}).flatMap(([name, one]) => {
    const path = above ? `${above}.${name}` : name;
    return isGroup(one) ? settings(one, path) : [[path, one] as [string, Form]];
  });
}

/** What a layer inherits: a later layer's word over an earlier one's. Lists may be added to, which the manager works out. */
export function inherited(below: Tree[], path: string): unknown {
  for (let at = below.length - 1; at >= 0; at--) {
    const value = read(below[at]!, path);
    if (value !== undefined && value !== "inherit") return value;
  }
  return undefined;
}
