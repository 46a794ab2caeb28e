// Enrolment in three steps: name it, copy the commands, watch the host appear.
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { Link } from "react-router";
import { api, ask, type Schemas } from "../../api/client";
import { toServer } from "../../app/links";
import { useFormat } from "../../i18n/format";
import { useText } from "../../i18n/words";
import { Button } from "../../parts/Button";
import { Copy } from "../../parts/Copy";
import { Dialog } from "../../parts/Dialog";
import { Choose, Field } from "../../parts/Field";
import { Badge, Dot, Fault } from "../../parts/State";
import css from "./Servers.module.css";
import { AGENT_TONES } from "./model";

const USES = ["1", "10", "100"] as const;

/** What the command fetches from the manager, and compares. */
function Package({ of }: { of: Schemas["AgentPackage"] }) {
  const text = useText();
  const format = useFormat();
  return (
    <div>
      <p className="small">{text("servers-package")} <span className="mono">{of.name}</span> ({format.bytes(of.bytes)})</p>
      <p className="small soft">SHA-256 <span className="mono">{of.sha256}</span></p>
    </div>
  );
}

export function Enrol({ onClose }: { onClose: () => void }) {
  const text = useText();
  const queries = useQueryClient();
  const [name, setName] = useState("");
  const [tags, setTags] = useState("");
  const [uses, setUses] = useState<(typeof USES)[number]>("1");
  const make = useMutation({
    mutationFn: () => ask(api.POST("/api/v1/enrolment-tokens", { body: { name: name || text("servers-token-name"), tags: tags.split(/[\s,]+/).filter(Boolean), uses: Number(uses), hours: 24 } })),
  });
  const made = make.data;
  const status = useQuery({
    queryKey: ["enrolment", made?.enrolment.id],
    queryFn: async () => {
      const status = await ask(api.GET("/api/v1/enrolment-tokens/{id}", { params: { path: { id: made!.enrolment.id } } }));
      if (status.hosts.length) await queries.invalidateQueries({ queryKey: ["agents"] });
      return status;
    },
    enabled: Boolean(made),
    refetchInterval: 2_000,
  });
  const hosts = status.data?.hosts ?? [];
  const connected = hosts.some((host) => host.state === "connected");
  const choices = USES.map((id) => ({ id, name: text("servers-uses", { count: Number(id) }) }));
  return (
    <Dialog
      title={text("servers-enrol")} open onClose={onClose}
      foot={
        made ? (
          <Button weight={connected ? "primary" : "plain"} onPress={onClose}>{text(connected ? "servers-done" : "close")}</Button>
        ) : (
          <Button weight="primary" isPending={make.isPending} onPress={() => make.mutate()}>{text("servers-make")}</Button>
        )
      }
    >
      <ol className={css.steps}>
        <li data-done={Boolean(made)}>
          <h3>{text("servers-step-name")}</h3>
          {made ? <p>{made.enrolment.name} {made.enrolment.tags.map((tag) => <Badge key={tag}>{tag}</Badge>)}</p> : (
            <div className="stack">
              <Field label={text("servers-name")} help={text("servers-name-about")} value={name} onChange={setName} autoFocus maxLength={64} placeholder={text("servers-token-name")} />
              <Field label={text("servers-tags")} help={text("servers-tags-about")} value={tags} onChange={setTags} placeholder="web production" />
              <Choose label={text("servers-how-many")} choices={choices} value={uses} onChange={setUses} />
              {make.error ? <Fault error={make.error} /> : null}
            </div>
          )}
        </li>
        <li data-done={hosts.length > 0}>
          <h3>{text("servers-step-copy")}</h3>
          {made && (
            <div className="stack tight">
              {made.only_here && (
                <>
                  <p>{text("servers-only-here")}</p>
                  <Copy label={text("servers-only-here-commands")}>{`make down\nmake up LINK=${text("servers-address")}:7601`}</Copy>
                </>
              )}
              <p className="soft">{text(made.package ? "servers-copy-about" : "servers-copy-beside")}</p>
              <Copy label={text("servers-step-copy")}>{made.commands.join("\n")}</Copy>
              <p className="soft small">{text("servers-copy-secret")}</p>
              {made.package ? <Package of={made.package} /> : <p>{text("servers-no-package")} <span className="mono">{made.package_wanted}</span></p>}
            </div>
          )}
        </li>
        <li data-done={connected}>
          <h3>{text("servers-step-watch")}</h3>
          {made && (
            <div role="status" className="stack tight">
              {hosts.length === 0 && (status.data?.open === false ? <Dot tone="person">{text("servers-over")}</Dot> : <Dot tone="lead">{text("servers-waiting")}</Dot>)}
              {hosts.map((host) => (
                <span key={host.agent} className="row">
                  <Dot tone={AGENT_TONES[host.state]}>{text(`agent-${host.state}`)}</Dot>
                  <Link to={toServer(host.agent)}>{host.host}</Link>
                </span>
              ))}
              {connected && <p className="soft">{text("servers-joined-about")}</p>}
            </div>
          )}
        </li>
      </ol>
    </Dialog>
  );
}
