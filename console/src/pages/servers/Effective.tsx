// The policy in effect on a server, value by value, and the layer that each comes from.
import { Link } from "react-router";
import { useState } from "react";
import type { Schemas } from "../../api/client";
import { at, shown } from "../../api/document";
import { toLayer } from "../../app/links";
import { useText } from "../../i18n/words";
import { Field, Tick } from "../../parts/Field";
import { Panel } from "../../parts/Page";
import { Badge } from "../../parts/State";
import css from "./Servers.module.css";

export function Effective({ policy, held }: { policy: Schemas["EffectivePolicy"]; held: string[] }) {
  const text = useText();
  const [part, setPart] = useState("");
  const [own, setOwn] = useState(false);
  const origin = policy.origin as Record<string, string[]>;
  const names = Object.keys(origin).filter((name) => name.includes(part.trim()) && (!own || origin[name]!.some((layer) => layer !== "default")));
  return (
    <Panel
      title={text("servers-policy")} about={text("servers-policy-about")}
      actions={<><Tick value={own} onChange={setOwn}>{text("servers-policy-own")}</Tick><Field label={text("servers-policy-find")} value={part} onChange={setPart} type="search" /></>}
    >
      {names.map((name) => {
        const layers = origin[name]!;
        const deciding = layers[layers.length - 1]!;
        return (
          <div key={name} className={css.policy}>
            <span className="mono">{name}</span>
            <span className="mono">{shown(at(policy.policy, name)) || "—"} {held.includes(name) && <Badge tone="care">{text("servers-held")}</Badge>}</span>
            <span className="soft small" title={layers.join(" → ")}>
              {deciding === "default" ? text("layer-default") : <Link to={toLayer(deciding)}>{deciding === "tenant" ? text("layer-tenant") : deciding}</Link>}
            </span>
          </div>
        );
      })}
      {names.length === 0 && <p className="soft">{text("servers-policy-none")}</p>}
    </Panel>
  );
}
