// Tokens by which programs use the API. A secret is shown once.
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { KeyRound, Trash2 } from "lucide-react";
import { useState } from "react";
import { api, ask, type Schemas } from "../../api/client";
import { useSession } from "../../app/session";
import { useText } from "../../i18n/words";
import { Button } from "../../parts/Button";
import { Copy } from "../../parts/Copy";
import { Confirm, Dialog } from "../../parts/Dialog";
import { Choose, Field } from "../../parts/Field";
import { Panel } from "../../parts/Page";
import { Asked, Empty, Fault } from "../../parts/State";
import { Table } from "../../parts/Table";
import { Ago, Moment } from "../../parts/Time";
import { useRoles, type Role } from "./roles";

type Token = Schemas["Token"];

export function Tokens() {
  const text = useText();
  const roles = useRoles();
  const { can } = useSession();
  const queries = useQueryClient();
  const [adding, setAdding] = useState(false);
  const [going, setGoing] = useState<Token>();
  const tokens = useQuery({ queryKey: ["tokens"], queryFn: () => ask(api.GET("/api/v1/tokens", { params: { query: { limit: 500 } } })) });
  const again = () => queries.invalidateQueries({ queryKey: ["tokens"] });
  return (
    <Panel
      flush title={text("settings-tokens")} about={text("settings-tokens-about")}
      actions={can("tokens:write") && <Button icon={<KeyRound />} onPress={() => setAdding(true)}>{text("settings-token-make")}</Button>}
    >
      <Asked query={tokens}>
        {({ items }) => (
          <Table
            label={text("settings-tokens")} rows={items} keyOf={(token) => token.id}
            empty={<Empty icon={<KeyRound />} title={text("settings-no-token")}>{text("settings-tokens-about")}</Empty>}
            columns={[
              { id: "name", title: text("name"), cell: (token: Token) => token.name },
              { id: "prefix", title: text("settings-token-begins"), cell: (token: Token) => <span className="mono">{token.prefix}…</span> },
              { id: "role", title: text("settings-role"), cell: (token: Token) => roles.find((role) => role.id === token.role)?.name },
              { id: "used", title: text("settings-last-used"), cell: (token: Token) => <Ago time={token.last_used} /> },
              { id: "ends", title: text("settings-ends"), cell: (token: Token) => (token.expires ? <Moment time={token.expires} /> : text("settings-never")) },
              { id: "delete", title: "", width: "3rem", cell: (token: Token) => can("tokens:write") && <Button weight="quiet" icon={<Trash2 />} label={text("settings-token-delete", { name: token.name })} onPress={() => setGoing(token)} /> },
            ]}
          />
        )}
      </Asked>
      {adding && <Make onClose={() => { setAdding(false); void again(); }} />}
      <Confirm
        title={text("settings-token-delete", { name: going?.name ?? "" })} action={text("settings-delete")} danger open={Boolean(going)} onClose={() => setGoing(undefined)}
        onConfirm={async () => {
          await ask(api.DELETE("/api/v1/tokens/{id}", { params: { path: { id: going!.id } } }));
          await again();
        }}
      >
        <p>{text("settings-token-delete-about")}</p>
      </Confirm>
    </Panel>
  );
}

function Make({ onClose }: { onClose: () => void }) {
  const text = useText();
  const roles = useRoles();
  const [name, setName] = useState("");
  const [role, setRole] = useState<Role>("viewer");
  const [days, setDays] = useState("90");
  const make = useMutation({ mutationFn: () => ask(api.POST("/api/v1/tokens", { body: { name, role, days: days === "never" ? null : Number(days) } })) });
  const lives = ["30", "90", "365", "never"].map((id) => ({ id, name: id === "never" ? text("settings-never") : text("settings-days", { days: Number(id) }) }));
  return (
    <Dialog
      title={text("settings-token-make")} open onClose={onClose}
      foot={make.data ? <Button weight="primary" onPress={onClose}>{text("settings-kept-it")}</Button> : <Button weight="primary" isPending={make.isPending} isDisabled={!name} onPress={() => make.mutate()}>{text("settings-token-make")}</Button>}
    >
      {make.data ? (
        <div className="stack"><p>{text("settings-shown-once")}</p><Copy label={text("settings-secret")}>{make.data.secret}</Copy></div>
      ) : (
        <div className="stack">
          <Field label={text("name")} value={name} onChange={setName} autoFocus help={text("settings-token-name-about")} maxLength={64} />
          <Choose label={text("settings-role")} choices={roles} value={role} onChange={setRole} />
          <Choose label={text("settings-lives")} choices={lives} value={days} onChange={setDays} />
          {make.error ? <Fault error={make.error} /> : null}
        </div>
      )}
    </Dialog>
  );
}
