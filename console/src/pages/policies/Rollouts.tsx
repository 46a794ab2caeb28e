// Roll-outs in stages: some servers first, the others when those are well.
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { api, ask, type Schemas } from "../../api/client";
import { useSession } from "../../app/session";
import { useText } from "../../i18n/words";
import { Button } from "../../parts/Button";
import { Confirm } from "../../parts/Dialog";
import { Panel } from "../../parts/Page";
import { ReasonField } from "../../parts/ReasonField";
import { Asked, Badge, Dot, Empty, type Tone } from "../../parts/State";
import { Ago, Moment } from "../../parts/Time";

type Rollout = Schemas["Rollout"];
const TONES: Record<string, Tone> = { first: "lead", halted: "person", done: "good", withdrawn: "calm" };

export function Rollouts({ name }: { name: (layer: string) => string }) {
  const text = useText();
  const queries = useQueryClient();
  const { can } = useSession();
  const [reason, setReason] = useState("");
  const [move, setMove] = useState<{ id: string; to: "continue" | "withdraw" }>();
  const rollouts = useQuery({ queryKey: ["policies", "rollouts"], queryFn: () => ask(api.GET("/api/v1/policies/rollouts", { params: { query: { limit: 50 } } })), refetchInterval: 5_000 });
  return (
    <>
      <Asked query={rollouts}>
        {({ items }) =>
          items.length === 0 ? <Panel><Empty title={text("policies-no-rollout")}>{text("policies-no-rollout-about")}</Empty></Panel> : (
            <div className="stack">
              {items.map((rollout: Rollout) => (
                <Panel
                  key={rollout.id} title={<span className="row">{name(rollout.layer)} <Badge tone={TONES[rollout.state]}>{text(`rollout-${rollout.state}`)}</Badge></span>} about={<>{rollout.author} · <Ago time={rollout.created} />{rollout.reason && ` · ${rollout.reason}`}</>}
                  actions={can("policies:write") && (rollout.state === "first" || rollout.state === "halted") && (
                    <>
                      <Button onPress={() => setMove({ id: rollout.id, to: "withdraw" })}>{text("policies-withdraw")}</Button>
                      <Button onPress={() => setMove({ id: rollout.id, to: "continue" })}>{text("policies-continue")}</Button>
                    </>
                  )}
                >
                  <div className="stack tight">
                    <p>{rollout.why}</p>
                    {rollout.next && rollout.state === "first" && <p className="soft">{text("policies-next")} <Moment time={rollout.next} /></p>}
                    {rollout.hosts.map((host) => (
                      <div key={host.agent} className="row">
                        <Dot tone={host.failing.length ? "person" : host.took ? "good" : "calm"}>{host.host || host.agent}</Dot>
                        <span className="soft small">{host.failing.length ? host.failing.join(" · ") : text(host.took ? "policies-took" : "policies-not-yet")}</span>
                      </div>
                    ))}
                  </div>
                </Panel>
              ))}
            </div>
          )
        }
      </Asked>
      <Confirm
        title={text(move?.to === "continue" ? "policies-continue" : "policies-withdraw")} action={text(move?.to === "continue" ? "policies-continue" : "policies-withdraw")} open={Boolean(move)} onClose={() => { setMove(undefined); setReason(""); }}
        onConfirm={async () => {
          const params = { path: { id: move!.id } };
          const body = { reason: reason.trim() };
          if (move!.to === "continue") await ask(api.POST("/api/v1/policies/rollouts/{id}/continue", { params, body }));
          else await ask(api.POST("/api/v1/policies/rollouts/{id}/withdraw", { params, body }));
          await queries.invalidateQueries({ queryKey: ["policies"] });
        }}
      >
        <p>{text(move?.to === "continue" ? "policies-continue-about" : "policies-withdraw-about")}</p>
        <ReasonField value={reason} onChange={setReason} />
      </Confirm>
    </>
  );
}
