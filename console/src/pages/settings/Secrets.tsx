// Named secrets, whose values nobody sees again, and the key that seals them.
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { Lock, Trash2 } from "lucide-react";
import { useState } from "react";
import { api, ask, type Schemas } from "../../api/client";
import { useSession } from "../../app/session";
import { useText } from "../../i18n/words";
import { Button } from "../../parts/Button";
import { Confirm, Dialog } from "../../parts/Dialog";
import { Field } from "../../parts/Field";
import { useNotice } from "../../parts/Notice";
import { Facts, Panel } from "../../parts/Page";
import { Asked, Empty, Fault } from "../../parts/State";
import { Table } from "../../parts/Table";
import { Ago } from "../../parts/Time";

type Secret = Schemas["Secret"];

export function Secrets() {
  const text = useText();
  const { can } = useSession();
  const say = useNotice();
  const queries = useQueryClient();
  const [adding, setAdding] = useState(false);
  const [name, setName] = useState("");
  const [value, setValue] = useState("");
  const [going, setGoing] = useState<Secret>();
  const secrets = useQuery({ queryKey: ["secrets"], queryFn: () => ask(api.GET("/api/v1/secrets", { params: { query: { limit: 500 } } })) });
  const sealing = useQuery({ queryKey: ["sealing"], queryFn: () => ask(api.GET("/api/v1/sealing")), enabled: can("sealing:read") });
  const again = () => queries.invalidateQueries({ queryKey: ["secrets"] });
  const set = useMutation({
    mutationFn: () => ask(api.PUT("/api/v1/secrets/{name}", { params: { path: { name } }, body: value as never, bodySerializer: (body) => body as unknown as string, headers: { "content-type": "application/octet-stream" } })),
    onSuccess: () => {
      say(text("settings-secret-set", { name }));
      setAdding(false);
      setName("");
      setValue("");
      return again();
    },
  });
  return (
    <div className="stack wide">
      <Panel flush title={text("settings-secrets")} about={text("settings-secrets-about")} actions={can("secrets:write") && <Button icon={<Lock />} onPress={() => setAdding(true)}>{text("settings-secret-add")}</Button>}>
        <Asked query={secrets}>
          {({ items }) => (
            <Table
              label={text("settings-secrets")} rows={items} keyOf={(secret) => secret.name}
              empty={<Empty icon={<Lock />} title={text("settings-no-secret")}>{text("settings-secrets-about")}</Empty>}
              columns={[
                { id: "name", title: text("name"), cell: (secret: Secret) => <span className="mono">{secret.name}</span> },
                { id: "used", title: text("settings-used-by"), cell: (secret: Secret) => secret.used_by.join(", ") || "—" },
                { id: "by", title: text("settings-set-by"), cell: (secret: Secret) => secret.changed_by },
                { id: "changed", title: text("settings-changed"), cell: (secret: Secret) => <Ago time={secret.changed} /> },
                { id: "delete", title: "", width: "3rem", cell: (secret: Secret) => can("secrets:write") && <Button weight="quiet" icon={<Trash2 />} label={text("settings-secret-delete", { name: secret.name })} onPress={() => setGoing(secret)} /> },
              ]}
            />
          )}
        </Asked>
      </Panel>
      {sealing.data && (
        <Panel title={text("settings-sealing")} about={text("settings-sealing-about")}>
          <Facts
            items={[
              [text("settings-key"), <span className="mono">{sealing.data.key}</span>],
              [text("settings-key-file"), <span className="mono">{sealing.data.file}</span>],
              sealing.data.older.length > 0 && [text("settings-older-keys"), <span className="mono">{sealing.data.older.join(", ")}</span>],
            ]}
          />
        </Panel>
      )}
      <Dialog title={text("settings-secret-add")} open={adding} onClose={() => setAdding(false)} foot={<Button weight="primary" isPending={set.isPending} isDisabled={!name || !value} onPress={() => set.mutate()}>{text("save")}</Button>}>
        <div className="stack">
          <Field label={text("name")} value={name} onChange={setName} autoFocus code autoComplete="off" />
          <Field label={text("settings-secret")} type="password" value={value} onChange={setValue} autoComplete="off" help={text("settings-secret-about")} />
          {set.error ? <Fault error={set.error} /> : null}
        </div>
      </Dialog>
      <Confirm
        title={text("settings-secret-delete", { name: going?.name ?? "" })} action={text("settings-delete")} danger open={Boolean(going)} onClose={() => setGoing(undefined)}
        onConfirm={async () => {
          await ask(api.DELETE("/api/v1/secrets/{name}", { params: { path: { name: going!.name } } }));
          await again();
        }}
      >
        <p>{going?.used_by.length ? text("settings-secret-delete-used", { channels: going.used_by.join(", ") }) : text("settings-secret-delete-about")}</p>
      </Confirm>
    </div>
  );
}
