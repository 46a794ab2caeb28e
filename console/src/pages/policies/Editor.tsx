// A layer as a form or as YAML. Only what the layer sets is written; everything else is inherited and says from whom. What is typed
// stays while the manager is away, and before saving the difference is shown, with the servers it is for.
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { api, ask, Problem } from "../../api/client";
import { shown } from "../../api/document";
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

export function Editor({ layer, name, current, below, schema }: Props) {
  const text = useText();
  const { language } = useWords();
  const { can } = useSession();
  const queries = useQueryClient();
  const stored = (current?.tree ?? {}) as Tree;
  const [draft, setDraft] = useState<{ tree: Tree; over: number }>();
  const [json, setJson] = useState<string>();
  const [part, setPart] = useState("");
  const [only, setOnly] = useState(false);
  const tree = draft?.tree ?? stored;
  const over = draft?.over ?? current?.number ?? 0;
  const may = can("policies:write");
  const change = (tree: Tree) => setDraft({ tree, over });
  const preview = useMutation({ mutationFn: (tree: Tree) => ask(api.POST("/api/v1/policies/preview", { body: { layer, tree: tree as never } })) });
  const written = async () => {
    setDraft(undefined);
    setJson(undefined);
    preview.reset();
    await queries.invalidateQueries({ queryKey: ["policies"] });
    await queries.invalidateQueries({ queryKey: ["agents"] });
  };
  const title = (form: Form) => (language === "ja" && form["x-title-ja"]) || form.title || "";
  const look = () => {
    let wanted = tree;
    if (json !== undefined) {
      try {
        wanted = JSON.parse(json) as Tree;
        change(wanted);
      } catch {
        return;
      }
    }
    preview.mutate(wanted);
  };
  const broken = json !== undefined && !parses(json);

  const groups = Object.entries(schema.properties ?? {}).flatMap(([name, form]) =>
    name === "modules" ? Object.entries(form.properties ?? {}).map(([inner, form]) => [`modules.${inner}`, form] as const) : [[name, form] as const]);
  return (
    <div className="stack">
      <Panel
        title={name} about={current ? text("policies-version", { number: current.number, author: current.author }) : text("policies-nothing-yet")}
        actions={<Switch value={json !== undefined} onChange={(on) => { if (!on && json !== undefined && parses(json)) change(JSON.parse(json) as Tree); setJson(on ? JSON.stringify(tree, null, 2) : undefined); }}>{text("policies-as-text")}</Switch>}
      >
        {json !== undefined ? (
          <Code label={name} language="json" value={json} readOnly={!may} onChange={setJson} maxHeight="70vh" minHeight="16rem" marks={broken ? [{ line: 1, message: text("policies-broken"), severity: "error" }] : []} />
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
                  <div key={path} className={css.setting} data-set={own !== undefined}>
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
      {may && (draft || json !== undefined) && (
        <div className={css.foot}>
          <span className="soft grow">{text("policies-unsaved")}</span>
          <Button onPress={() => { setDraft(undefined); setJson(undefined); preview.reset(); }}>{text("policies-discard")}</Button>
          <Button weight="primary" isPending={preview.isPending} isDisabled={broken} onPress={look}>{text("policies-look")}</Button>
        </div>
      )}
      {preview.error ? <Fault error={preview.error instanceof Problem ? preview.error : preview.error} /> : null}
      {preview.data && <Difference layer={layer} tree={tree} over={over} difference={preview.data} onClose={() => preview.reset()} onWritten={written} />}
    </div>
  );
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
