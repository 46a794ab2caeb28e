// A playbook's YAML as boxes to draw. It reads generously: the manager has checked the text, and what this does not know is
// shown as it is written. Each box knows its lines, and its place as executions name it: `0`, `2.1`, `3[*].0`.
import { isMap, isNode, isPair, isSeq, LineCounter, parseDocument, type Document } from "yaml";

export type OnFailure = "undo" | "stop" | "continue";
export interface Words { en: string; ja: string }

export interface Ask { channel: string; within: string; otherwise: "allow" | "deny"; persons: number; text: Words }

export interface StepBox {
  place: string;
  kind: "action" | "approval" | "parallel" | "each" | "wait" | "unknown";
  name?: string;
  when?: string;
  onFailure: OnFailure;
  action?: string;
  /** A channel, or an expression. */
  target?: string;
  facts: { name: "expiry" | "retries" | "timeout" | "most"; value: string }[];
  inputs: { name: string; value: string; computed: boolean }[];
  ask?: Ask;
  list?: string;
  wait?: string;
  steps: StepBox[];
  lines: { from: number; to: number };
}

export interface Boxes {
  trigger: { kind: string; facts: { name: string; value: string }[] };
  when?: string;
  stopWhen?: string;
  quiet?: { from: string; to: string; zone: string; then: string; ask?: string };
  limits?: { most?: string; share?: string; within: string; ask?: string };
  steps: StepBox[];
}

type Map = Record<string, unknown>;
const map = (value: unknown): Map => (value && typeof value === "object" && !Array.isArray(value) ? (value as Map) : {});
const words = (value: unknown): string | undefined => (value === undefined || value === null ? undefined : typeof value === "object" ? JSON.stringify(value) : String(value));
/** Deepest nesting that is drawn: the manager takes less. */
const DEEPEST = 8;

/** Throws what YAML says where the text is none. */
export function parse(text: string): Boxes {
  const counter = new LineCounter();
  const doc = parseDocument(text, { lineCounter: counter });
  if (doc.errors[0]) throw doc.errors[0];
  const root = map(doc.toJS({ maxAliasCount: 100 }));
  const [kind = "manual", said] = Object.entries(map(root.trigger))[0] ?? [];
  const stepCount = Array.isArray(root.steps) ? root.steps.length : 0;
  const host = map(said).scope === "host";
  const at = { doc, counter, usual: (host || stepCount === 1 ? "continue" : "undo") as OnFailure };
  const quiet = root.quiet_hours ? map(root.quiet_hours) : undefined;
  const limits = root.limits ? map(root.limits) : undefined;
  return {
    trigger: { kind, facts: Object.entries(map(said)).map(([name, value]) => ({ name, value: Array.isArray(value) ? value.join(", ") : words(value) ?? "" })) },
    when: words(root.when),
    stopWhen: words(root.stop_when),
    quiet: quiet ? { from: words(quiet.from) ?? "", to: words(quiet.to) ?? "", zone: words(quiet.zone) ?? "UTC", then: words(quiet.then) ?? "", ask: words(quiet.ask) } : undefined,
    limits: limits ? { most: words(limits.most), share: words(limits.share), within: words(limits.within) ?? "", ask: words(limits.ask) } : undefined,
    steps: list(root.steps, ["steps"], "", at, 0),
  };
}

interface At { doc: Document; counter: LineCounter; usual: OnFailure }

function list(steps: unknown, path: (string | number)[], prefix: string, at: At, depth: number): StepBox[] {
  if (!Array.isArray(steps) || depth > DEEPEST) return [];
  return steps.map((read, nth) => step(map(read), [...path, nth], `${prefix}${nth}`, at, depth));
}

function step(read: Map, path: (string | number)[], place: string, at: At, depth: number): StepBox {
  const kind = read.action ? "action" : read.approval ? "approval" : read.parallel ? "parallel" : read.for_each ? "each" : read.wait ? "wait" : "unknown";
  const usual = kind === "approval" ? "stop" : read.action === "notify" ? "continue" : depth > 0 && at.usual === "continue" ? "undo" : at.usual;
  const ask = read.approval ? map(read.approval) : undefined;
  const said = map(ask?.text);
  return {
    place,
    kind,
    name: words(read.id),
    when: words(read.when),
    onFailure: (words(read.on_failure) as OnFailure | undefined) ?? usual,
    action: words(read.action),
    target: words(read.channel) ?? words(read.target),
    facts: (["expiry", "retries", "timeout", "most"] as const).flatMap((name) => (read[name] === undefined ? [] : [{ name, value: words(read[name])! }])),
    inputs: Object.entries(map(read.inputs)).map(([name, value]) => {
      const computed = map(value).cel;
      return { name, value: words(computed ?? value) ?? "", computed: computed !== undefined };
    }),
    ask: ask && {
      channel: words(ask.ask) ?? "", within: words(ask.within) ?? "", otherwise: ask.otherwise === "allow" ? "allow" : "deny",
      persons: Number(ask.persons ?? 1), text: { en: words(said.en) ?? "", ja: words(said.ja) ?? "" },
    },
    list: words(read.for_each),
    wait: words(read.wait),
    steps: kind === "parallel" ? list(read.parallel, [...path, "parallel"], `${place}.`, at, depth + 1)
      : kind === "each" ? list(read.steps, [...path, "steps"], `${place}[*].`, at, depth + 1) : [],
    lines: linesOf(path, at),
  };
}

function linesOf(path: (string | number)[], { doc, counter }: At) {
  const node = doc.getIn(path, true);
  if (!isNode(node) || !node.range) return { from: 1, to: 1 };
  const [from, end] = node.range;
  // A block ends where the next thing begins: its last line is that of its last value.
  let last = node;
  while ((isMap(last) || isSeq(last)) && last.items.length > 0 && !last.flow) {
    const item: unknown = last.items[last.items.length - 1];
    const inner: unknown = isPair(item) ? item.value ?? item.key : item;
    if (!isNode(inner) || !inner.range) break;
    last = inner as typeof node;
  }
  const to = Math.max(from, (last.range?.[1] ?? end) - 1);
  return { from: counter.linePos(from).line, to: counter.linePos(to).line };
}

/** All boxes in their order, those within others too. */
export const flat = (steps: readonly StepBox[]): StepBox[] => steps.flatMap((step) => [step, ...flat(step.steps)]);

/** The box of a place of an execution: `3[2].0` is of `3[*].0`, a question about a limit is of its step. */
export const boxOf = (boxes: Boxes, place: string) => {
  const general = place.replace(/\[\d+\]/g, "[*]").replace(/!limit$/, "");
  return flat(boxes.steps).find((box) => box.place === general);
};

/** What is done after a place, up to the next question; within others, what is left there first. */
export function after(boxes: Boxes, place: string): StepBox[] {
  if (place === "quiet_hours") return upToQuestion(boxes.steps);
  const general = place.replace(/\[\d+\]/g, "[*]");
  const limit = general.endsWith("!limit");
  const asks = general.replace(/!limit$/, "");
  const walk = (steps: StepBox[]): StepBox[] | undefined => {
    for (const [nth, box] of steps.entries()) {
      if (box.place === asks) return upToQuestion(steps.slice(limit ? nth : nth + 1));
      const inner = walk(box.steps);
      if (inner) return [...inner, ...upToQuestion(steps.slice(nth + 1))];
    }
    return undefined;
  };
  return walk(boxes.steps) ?? [];
}

function upToQuestion(steps: StepBox[]): StepBox[] {
  const asks = steps.findIndex((step) => flat([step]).some((box) => box.kind === "approval"));
  return asks < 0 ? steps : steps.slice(0, asks + 1);
}
