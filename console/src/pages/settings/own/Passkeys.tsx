// One's passkeys: their names, making one, removing one.
import { KeyRound, Trash2 } from "lucide-react";
import { useState } from "react";
import { api, ask, type Schemas } from "../../../api/client";
import { PasskeyElsewhere } from "../../../app/ways";
import { isNumber, make } from "../../../app/webauthn";
import { useText } from "../../../i18n/words";
import { Button } from "../../../parts/Button";
import { Confirm } from "../../../parts/Dialog";
import { Field } from "../../../parts/Field";
import { useNotice } from "../../../parts/Notice";
import { Panel } from "../../../parts/Page";
import { Badge, Empty } from "../../../parts/State";
import { Table } from "../../../parts/Table";
import { Ago } from "../../../parts/Time";
import { Again } from "./Again";
import { useFactorsChanged, type Factors } from "./factors";

type Passkey = Schemas["Passkey"];
const LONGEST = 64;

export function Passkeys({ factors }: { factors: Factors }) {
  const text = useText();
  const say = useNotice();
  const changed = useFactorsChanged();
  const [adding, setAdding] = useState(false);
  const [name, setName] = useState("");
  const [going, setGoing] = useState<Passkey>();
  const here = !isNumber(location.hostname) && Boolean(window.PublicKeyCredential);
  const may = factors.passkeys_possible && here;
  const begin = () => {
    setName("");
    setAdding(true);
  };
  const add = async (body: Schemas["Again"]) => {
    const { ticket, public_key } = await ask(api.POST("/api/v1/session/passkeys/options", { body }));
    await ask(api.POST("/api/v1/session/passkeys", { body: { ticket, name: name.trim(), credential: await make(public_key) } }));
    setAdding(false);
    say(text("settings-passkey-added", { name: name.trim() }));
    await changed();
  };
  return (
    <Panel flush title={text("settings-passkeys")} about={text("settings-passkeys-about")} actions={may && <Button icon={<KeyRound />} onPress={begin}>{text("settings-passkey-add")}</Button>}>
      <Table
        label={text("settings-passkeys")} rows={factors.passkeys} keyOf={(passkey) => passkey.id}
        empty={
          <Empty icon={<KeyRound />} title={text("settings-no-passkey")}>
            {may ? text("settings-no-passkey-about") : factors.passkeys_possible ? <PasskeyElsewhere /> : text("settings-passkey-nowhere")}
          </Empty>
        }
        columns={[
          { id: "name", title: text("name"), width: "minmax(8rem, 2fr)", cell: (passkey: Passkey) => <span className="row">{passkey.name}{passkey.backed_up && <Badge>{text("settings-passkey-synced")}</Badge>}</span> },
          { id: "created", title: text("settings-made"), cell: (passkey: Passkey) => <Ago time={passkey.created} /> },
          { id: "used", title: text("settings-last-used"), cell: (passkey: Passkey) => <Ago time={passkey.last_used} /> },
          { id: "remove", title: "", width: "3rem", cell: (passkey: Passkey) => <Button weight="quiet" icon={<Trash2 />} label={text("settings-passkey-remove", { name: passkey.name })} onPress={() => setGoing(passkey)} /> },
        ]}
      />
      {adding && (
        <Again title={text("settings-passkey-add")} action={text("settings-passkey-add")} code={factors.totp} onClose={() => setAdding(false)} onConfirm={add} isDisabled={!name.trim()}>
          <Field label={text("settings-passkey-name")} help={text("settings-passkey-name-about")} value={name} onChange={setName} autoComplete="off" autoFocus maxLength={LONGEST} />
        </Again>
      )}
      <Confirm
        title={text("settings-passkey-remove", { name: going?.name ?? "" })} action={text("settings-delete")} danger open={Boolean(going)} onClose={() => setGoing(undefined)}
        onConfirm={async () => {
          await ask(api.DELETE("/api/v1/session/passkeys/{id}", { params: { path: { id: going!.id } } }));
          await changed();
        }}
      >
        <p>{text("settings-passkey-remove-about")}</p>
      </Confirm>
    </Panel>
  );
}
