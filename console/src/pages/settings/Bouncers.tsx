// Programs of others that block what is decided here, in the form that CrowdSec's bouncers read.
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { Network, Trash2 } from "lucide-react";
import { useState } from "react";
import { api, ask, type Schemas } from "../../api/client";
import { useSession } from "../../app/session";
import { useText } from "../../i18n/words";
import { Button } from "../../parts/Button";
import { Copy } from "../../parts/Copy";
import { Confirm, Dialog } from "../../parts/Dialog";
import { Field } from "../../parts/Field";
import { Panel } from "../../parts/Page";
import { Asked, Empty, Fault } from "../../parts/State";
import { Table } from "../../parts/Table";
import { Ago } from "../../parts/Time";

type Bouncer = Schemas["Bouncer"];

export function Bouncers() {
  const text = useText();
  const { can } = useSession();
  const queries = useQueryClient();
  const [adding, setAdding] = useState(false);
  const [name, setName] = useState("");
  const [going, setGoing] = useState<string>();
  const bouncers = useQuery({ queryKey: ["bouncers"], queryFn: () => ask(api.GET("/api/v1/bouncers")) });
  const again = () => queries.invalidateQueries({ queryKey: ["bouncers"] });
  const make = useMutation({ mutationFn: () => ask(api.POST("/api/v1/bouncers", { body: { name } })), onSuccess: again });
  const close = () => {
    setAdding(false);
    setName("");
    make.reset();
  };
  const add = can("bouncers:write") && <Button icon={<Network />} onPress={() => setAdding(true)}>{text("settings-bouncer-add")}</Button>;
  return (
    <Panel flush title={text("settings-bouncers")} about={text("settings-bouncers-about")} actions={add}>
      <Asked query={bouncers}>
        {({ items }) => (
          <Table
            label={text("settings-bouncers")} rows={items} keyOf={(bouncer) => bouncer.name}
            empty={<Empty icon={<Network />} title={text("settings-no-bouncer")}>{text("settings-no-bouncer-about")}</Empty>}
            columns={[
              { id: "name", title: text("name"), cell: (bouncer: Bouncer) => bouncer.name },
              { id: "kind", title: text("settings-kind"), cell: (bouncer: Bouncer) => bouncer.kind || "—" },
              { id: "pull", title: text("settings-told"), cell: (bouncer: Bouncer) => <Ago time={bouncer.last_pull} /> },
              { id: "delete", title: "", width: "3rem", cell: (bouncer: Bouncer) => can("bouncers:write") && <Button weight="quiet" icon={<Trash2 />} label={text("settings-bouncer-remove", { name: bouncer.name })} onPress={() => setGoing(bouncer.name)} /> },
            ]}
          />
        )}
      </Asked>
      <Dialog
        title={text("settings-bouncer-add")} open={adding} onClose={close}
        foot={make.data ? <Button weight="primary" onPress={close}>{text("settings-kept-it")}</Button> : <Button weight="primary" isPending={make.isPending} isDisabled={!name} onPress={() => make.mutate()}>{text("settings-bouncer-add")}</Button>}
      >
        {make.data ? (
          <div className="stack"><p>{text("settings-shown-once")}</p><Copy label={text("settings-secret")}>{make.data.key}</Copy></div>
        ) : (
          <div className="stack"><Field label={text("name")} value={name} onChange={setName} autoFocus />{make.error ? <Fault error={make.error} /> : null}</div>
        )}
      </Dialog>
      <Confirm
        title={text("settings-bouncer-remove", { name: going ?? "" })} action={text("settings-delete")} danger open={Boolean(going)} onClose={() => setGoing(undefined)}
        onConfirm={async () => {
          await ask(api.DELETE("/api/v1/bouncers/{name}", { params: { path: { name: going! } } }));
          await again();
        }}
      >
        <p>{text("settings-bouncer-remove-about")}</p>
      </Confirm>
    </Panel>
  );
}
