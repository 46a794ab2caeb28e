// What people say of an alert: open, looked at, or done with, and why.
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { api, ask, type Schemas } from "../../api/client";
import { useDrafted } from "../../app/drafts";
import { useSession } from "../../app/session";
import { useText } from "../../i18n/words";
import { Button } from "../../parts/Button";
import { Field } from "../../parts/Field";
import { useNotice } from "../../parts/Notice";
import { Badge, Fault } from "../../parts/State";
import { Ago } from "../../parts/Time";

export function Triage({ alert }: { alert: Schemas["Alert"] }) {
  const text = useText();
  const { can } = useSession();
  const say = useNotice();
  const queries = useQueryClient();
  const [comment, setComment, forget] = useDrafted(`alert.${alert.id}`, alert.comment);
  const change = useMutation({
    mutationFn: (status: string) => ask(api.PATCH("/api/v1/alerts/{id}", { params: { path: { id: alert.id } }, body: { status, comment } })),
    onSuccess: (alert) => {
      forget();
      say(text("search-triaged", { status: text(`search-status-${alert.status}`) }));
      return queries.invalidateQueries({ queryKey: ["alerts"] });
    },
  });
  const steps = ["acknowledged", "closed", "open"].filter((status) => status !== alert.status);
  return (
    <div className="stack tight">
      <div className="row">
        <Badge tone={alert.status === "open" ? "lead" : "calm"}>{text(`search-status-${alert.status}`)}</Badge>
        {alert.changed_by && <span className="soft small">{alert.changed_by} · <Ago time={alert.changed} /></span>}
      </div>
      {can("alerts:write") ? (
        <>
          <Field label={text("search-comment")} value={comment} onChange={setComment} lines={2} maxLength={2000} />
          <div className="row">
            {steps.map((status) => (
              <Button key={status} isPending={change.isPending && change.variables === status} onPress={() => change.mutate(status)}>{text(`search-make-${status}`)}</Button>
            ))}
          </div>
        </>
      ) : (
        alert.comment && <p>{alert.comment}</p>
      )}
      {change.error ? <Fault error={change.error} /> : null}
    </div>
  );
}
