// Policies in layers: all servers, groups, single servers. A form made of the schema; what would change and for whom before it is
// saved; history and roll-back; roll-out in stages.
import { useQuery } from "@tanstack/react-query";
import { Layers } from "lucide-react";
import { useState } from "react";
import { useSearchParams } from "react-router";
import { api, ask, type Schemas } from "../../api/client";
import { useAgents, useLayers } from "../../app/installation";
import { useSession } from "../../app/session";
import { useText } from "../../i18n/words";
import { Button } from "../../parts/Button";
import { Dialog } from "../../parts/Dialog";
import { Field } from "../../parts/Field";
import { Page } from "../../parts/Page";
import { Asked, Badge } from "../../parts/State";
import { Tabs } from "../../parts/Tabs";
import { Editor } from "./Editor";
import { History } from "./History";
import { Rollouts } from "./Rollouts";
import css from "./Policies.module.css";

export default function Policies() {
  const text = useText();
  const { can } = useSession();
  const [search, setSearch] = useSearchParams();
  const [naming, setNaming] = useState<string>();
  const layers = useLayers();
  const schema = useQuery({ queryKey: ["policies", "schema"], queryFn: () => ask(api.GET("/api/v1/policies/schema")), staleTime: Infinity });
  const agents = useAgents();
  const open = search.get("layer") ?? "tenant";
  const choose = (layer: string) =>
    setSearch((search) => {
      search.set("layer", layer);
      return search;
    });
  const name = (layer: string) => {
    if (layer === "tenant") return text("layer-tenant");
    if (layer.startsWith("host:")) return agents.find((agent) => agent.id === layer.slice(5))?.name ?? layer;
    return layer;
  };
  return (
    <Page
      title={text("page-policies")} about={text("policies-about")}
      actions={can("policies:write") && <Button icon={<Layers />} onPress={() => setNaming("")}>{text("policies-new")}</Button>}
    >
      <Asked query={{ data: layers.data && schema.data && { ...layers.data, schema: schema.data }, error: layers.error ?? schema.error, refetch: () => { void layers.refetch(); void schema.refetch(); } }} lines={8}>
        {({ layers, schema, default: base }) => {
          const names = [...new Set(["tenant", ...layers.map((layer) => layer.layer), open])].sort((a, b) => rank(a) - rank(b) || a.localeCompare(b));
          const current = layers.find((layer) => layer.layer === open);
          const below = layers.filter((layer) => rank(layer.layer) < rank(open));
          return (
            <div className={css.frame}>
              <nav aria-label={text("policies-layers")} className={css.layers}>
                {names.map((layer) => (
                  <button key={layer} type="button" aria-current={layer === open} className={css.layer} onClick={() => choose(layer)}>
                    <span>{name(layer)}</span>
                    <span className="soft small">{text(layer === "tenant" ? "policies-kind-tenant" : layer.startsWith("group:") ? "policies-kind-group" : "policies-kind-host")}</span>
                    {layers.some((one) => one.layer === layer && Object.keys(one.tree).length > 0) && <Badge tone="lead">{text("policies-sets")}</Badge>}
                  </button>
                ))}
              </nav>
              <Tabs
                key={open} label={name(open)}
                tabs={[
                  { id: "edit", title: text("policies-edit"), content: () => <Editor layer={open} name={name(open)} current={current} below={[base as Tree, ...below.map((layer) => layer.tree as Tree)]} schema={schema as unknown as Form} /> },
                  { id: "history", title: text("policies-history"), content: () => <History layer={open} current={current?.number ?? 0} /> },
                  { id: "rollouts", title: text("policies-rollouts"), content: () => <Rollouts name={name} /> },
                ]}
              />
            </div>
          );
        }}
      </Asked>
      <Dialog
        title={text("policies-new")} open={naming !== undefined} onClose={() => setNaming(undefined)}
        foot={<Button weight="primary" isDisabled={!naming?.trim()} onPress={() => { choose(`group:${naming!.trim()}`); setNaming(undefined); }}>{text("policies-begin")}</Button>}
      >
        <Field label={text("policies-group")} help={text("policies-group-about")} value={naming ?? ""} onChange={setNaming} autoFocus />
      </Dialog>
    </Page>
  );
}

export type Tree = { [name: string]: unknown };

/** JSON Schema, as far as forms need it. */
export interface Form {
  type?: string;
  title?: string;
  "x-title-ja"?: string;
  "x-unit"?: string;
  enum?: string[];
  default?: unknown;
  minimum?: number;
  maximum?: number;
  properties?: Record<string, Form>;
  items?: Form;
  oneOf?: unknown[];
}

/** Later layers decide over earlier ones. */
const rank = (layer: string) => (layer === "tenant" ? 0 : layer.startsWith("group:") ? 1 : 2);
export type Layer = Schemas["PolicyLayer"];
