// A layer as a form or as YAML. Only what the layer sets is written; everything else is inherited and says from whom. What is typed
// stays while the manager is away, and before saving the difference is shown, with the servers it is for.
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { api, ask, Problem } from "../../api/client";
import { shown } from "../../api/document";
import { useDraft } from "../../app/drafts";
import { useSession } from "../../app/session";
import { useText, useWords } from "../../i18n/words";
import { Button } from "../../parts/Button";
import { Code } from "../../parts/Code";
import { Field, Switch } from "../../parts/Field";
import { Panel } from "../../parts/Page";
import { Fault } from "../../parts/State";
import { Difference } from "./Difference";
import type { Form, Layer, Tree } from "./Policies";
import { inherited, isGroup, read, settings, write } from "./tree";
import { Value } from "./Value";
import css from "./Policies.module.css";

interface Props {
  layer: string;
  name: string;
  current: Layer | undefined;
  /** The layers below it, the built-in one first. */
  below: Tree[];
  schema: Form;
}

/** What was changed, over which version, and the text where it is edited as text. */
interface Draft { tree: Tree; over: number; json?: string }

export function Editor({ layer, name, current, below, schema }: Props) {
  const text = useText();
  const { language } = useWords();
  const { can } = useSession();
  const queries = useQueryClient();
  const stored = (current?.tree ?? {}) as Tree;
  const [draft, setDraft] = useDraft<Draft>(`policy.${layer}`);
  const [part, setPart] = useState("");
  const [only, setOnly] = useState(false);
  const newest = current?.number ?? 0;
  const tree = draft?.tree ?? stored;
  const over = draft?.over ?? newest;
  const json = draft?.json;
  // Fields begin anew where what was typed is thrown away.
  const [turn, setTurn] = useState(0);
  const may = can("policies:write");
  const change = (tree: Tree) => setDraft({ tree, over });
  const type = (json: string) => setDraft({ tree, over, json });
  const asText = (on: boolean) => {
    if (on) type(JSON.stringify(tree, null, 2));
    else if (json !== undefined && parses(json)) same(JSON.parse(json) as Tree, stored) ? setDraft(undefined) : change(JSON.parse(json) as Tree);
    else same(tree, stored) ? setDraft(undefined) : change(tree);
  };
  const preview = useMutation({ mutationFn: (tree: Tree) => ask(api.POST("/api/v1/policies/preview", { body: { layer, tree: tree as never } })) });
  const written = async () => {
    setDraft(undefined);
    preview.reset();
    await queries.invalidateQueries({ queryKey: ["policies"] });
    await queries.invalidateQueries({ queryKey: ["agents"] });
  };
  const title = (form: Form) => (language === "ja" && form["x-title-ja"]) || form.title || "";
  const look = () => {
    const wanted = json !== undefined && parses(json) ? (JSON.parse(json) as Tree) : tree;
    setDraft({ tree: wanted, over });
    preview.mutate(wanted);
  };
  const broken = json !== undefined && !parses(json);

  const groups = Object.entries(schema.properties ?? {}).flatMap(([name, form]) =>
    name === "modules" ? Object.entries(form.properties ?? {}).map(([inner, form]) => [`modules.${inner}`, form] as const) : [[name, form] as const]);
  return (
    <div className="stack">
      <Panel
        title={name} about={current ? text("policies-version", { number: current.number, author: current.author }) : text("policies-nothing-yet")}
        actions={<Switch value={json !== undefined} onChange={asText}>{text("policies-as-text")}</Switch>}
      >
        {json !== undefined ? (
          <Code label={name} language="json" value={json} readOnly={!may} onChange={type} maxHeight="70vh" minHeight="16rem" marks={broken ? [{ line: 1, message: text("policies-broken"), severity: "error" }] : []} />
        ) : (
          <div className="row">
            <Field label={text("policies-find")} type="search" value={part} onChange={setPart} />
            <Switch value={only} onChange={setOnly}>{text("policies-only-set")}</Switch>
          </div>
        )}
      </Panel>
      {json === undefined && groups.map(([above, form]) => {
        const rows = (isGroup(form) ? settings(form, above) : [[above, form] as [string, Form]]).filter(([path, form]) =>
          (!only || read(tree, path) !== undefined) && `${path} ${title(form)}`.toLowerCase().includes(part.toLowerCase().trim()));
        if (rows.length === 0) return null;
        return (
          <Panel key={above} title={title(form)}>
            <div className={css.group}>
              {rows.map(([path, form]) => {
                const own = read(tree, path);
                const given = inherited(below, path);
                return (
                  <div key={`${turn} ${path}`} className={css.setting} data-set={own !== undefined}>
                    <span>{title(form)} <span className="mono soft small">{path}</span></span>
                    {own === undefined ? <span className="soft mono">{shown(given) || "—"}</span> : <Value form={form} label={title(form)} value={own} isDisabled={!may} onChange={(value) => change(write(tree, path, value))} />}
                    {may && (own === undefined
                      ? <Button weight="quiet" onPress={() => change(write(tree, path, given ?? form.default ?? first(form)))}>{text("policies-set")}</Button>
                      : <Button weight="quiet" onPress={() => change(write(tree, path, undefined))}>{text("policies-inherit")}</Button>)}
                  </div>
                );
              })}
            </div>
          </Panel>
        );
      })}
      {may && draft && (
        <div className={css.foot}>
          <span className="soft grow">{over === newest ? text("policies-unsaved") : text("policies-overtaken", { begun: over, newest })}</span>
          {over !== newest && <Button onPress={() => setDraft({ ...draft, over: newest })}>{text("policies-over-newest")}</Button>}
          <Button onPress={() => { setDraft(undefined); setTurn(turn + 1); preview.reset(); }}>{text("policies-discard")}</Button>
          <Button weight="primary" isPending={preview.isPending} isDisabled={broken} onPress={look}>{text("policies-look")}</Button>
        </div>
      )}
      {preview.error ? <Fault error={preview.error instanceof Problem ? preview.error : preview.error} /> : null}
      {preview.data && <Difference layer={layer} tree={tree} over={over} difference={preview.data} onClose={() => preview.reset()} onWritten={written} />}
    </div>
  );
}

/** Do both say the same, in whatever order? */
function same(one: unknown, other: unknown): boolean {
  if (typeof one !== "object" || typeof other !== "object" || !one || !other) return one === other;
  const names = Object.keys(one);
  return Array.isArray(one) === Array.isArray(other) && names.length === Object.keys(other).length && names.every((name) => same((one as Tree)[name], (other as Tree)[name]));
}

function parses(text: string): boolean {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null && !Array.isArray(value);
  } catch {
    return false;
  }
}

function first(form: Form): unknown {
  if (form.enum) return form.enum[0];
  if (form.type === "array") return [];
  if (form.type === "boolean") return false;
  return form.type === "integer" ? form.minimum ?? 0 : "";
}
