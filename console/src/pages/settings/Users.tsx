// Users: who may sign in, and as what.
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { UserPlus } from "lucide-react";
import { useState } from "react";
import { api, ask, type Schemas } from "../../api/client";
import { useSession } from "../../app/session";
import { useText } from "../../i18n/words";
import { Button } from "../../parts/Button";
import { Confirm, Dialog } from "../../parts/Dialog";
import { Choose, Field, Switch } from "../../parts/Field";
import { useNotice } from "../../parts/Notice";
import { Panel } from "../../parts/Page";
import { Asked, Badge, Fault } from "../../parts/State";
import { Table } from "../../parts/Table";
import { Ago } from "../../parts/Time";
import { useRoles, type Role } from "./roles";
import { UserFactors } from "./UserFactors";

type User = Schemas["User"];

export function Users() {
  const text = useText();
  const roles = useRoles();
  const { can, who } = useSession();
  const [adding, setAdding] = useState(false);
  const [open, setOpen] = useState<string>();
  const users = useQuery({ queryKey: ["users"], queryFn: () => ask(api.GET("/api/v1/users", { params: { query: { limit: 500 } } })) });
  return (
    <Panel
      flush title={text("settings-users")} about={text("settings-users-about")}
      actions={can("users:write") && <Button icon={<UserPlus />} onPress={() => setAdding(true)}>{text("settings-user-add")}</Button>}
    >
      <Asked query={users}>
        {({ items }) => (
          <>
            <Table
              label={text("settings-users")} rows={items} keyOf={(user) => user.id} onOpen={can("users:write") ? (user) => setOpen(user.id) : undefined}
              columns={[
                { id: "name", title: text("name"), cell: (user: User) => <span className="row">{user.name}{user.name === who.name && <Badge>{text("settings-you")}</Badge>}</span> },
                { id: "role", title: text("settings-role"), cell: (user: User) => roles.find((role) => role.id === user.role)?.name },
                { id: "tenant", title: text("settings-tenant"), cell: (user: User) => (user.tenant === "*" ? text("settings-all-tenants") : user.tenant) },
                { id: "state", title: text("settings-state"), cell: (user: User) => (user.disabled ? <Badge>{text("settings-disabled")}</Badge> : text("settings-may-sign-in")) },
                { id: "changed", title: text("settings-changed"), cell: (user: User) => <Ago time={user.changed} /> },
              ]}
            />
            <Change user={items.find((user) => user.id === open)} onClose={() => setOpen(undefined)} />
          </>
        )}
      </Asked>
      {adding && <Add onClose={() => setAdding(false)} />}
    </Panel>
  );
}

function Add({ onClose }: { onClose: () => void }) {
  const text = useText();
  const roles = useRoles();
  const say = useNotice();
  const queries = useQueryClient();
  const [name, setName] = useState("");
  const [password, setPassword] = useState("");
  const [role, setRole] = useState<Role>("viewer");
  const add = useMutation({
    mutationFn: () => ask(api.POST("/api/v1/users", { body: { name, password, role } })),
    onSuccess: () => {
      say(text("settings-user-added", { name }));
      onClose();
      return queries.invalidateQueries({ queryKey: ["users"] });
    },
  });
  return (
    <Dialog title={text("settings-user-add")} open onClose={onClose} foot={<Button weight="primary" isPending={add.isPending} isDisabled={!name || password.length < 12} onPress={() => add.mutate()}>{text("settings-user-add")}</Button>}>
      <div className="stack">
        <Field label={text("name")} value={name} onChange={setName} autoFocus autoComplete="off" help={text("settings-user-name-about")} />
        <Field label={text("password")} type="password" value={password} onChange={setPassword} autoComplete="new-password" help={text("settings-password-length", { least: 12 })} />
        <Choose label={text("settings-role")} choices={roles} value={role} onChange={setRole} />
        {add.error ? <Fault error={add.error} /> : null}
      </div>
    </Dialog>
  );
}

function Change({ user, onClose }: { user: User | undefined; onClose: () => void }) {
  const text = useText();
  const roles = useRoles();
  const say = useNotice();
  const queries = useQueryClient();
  const [password, setPassword] = useState("");
  const [deleting, setDeleting] = useState(false);
  const id = user?.id ?? "";
  const factors = useQuery({
    queryKey: ["users", id, "factors"],
    queryFn: () => ask(api.GET("/api/v1/users/{id}/factors", { params: { path: { id } } })),
    enabled: Boolean(id),
  });
  const done = (words: string) => {
    say(words);
    return queries.invalidateQueries({ queryKey: ["users"] });
  };
  const patch = useMutation({
    mutationFn: (body: Schemas["UserPatch"]) => ask(api.PATCH("/api/v1/users/{id}", { params: { path: { id } }, body })),
    onSuccess: () => done(text("settings-user-changed")),
  });
  const reset = useMutation({
    mutationFn: () => ask(api.PUT("/api/v1/users/{id}/password", { params: { path: { id } }, body: { password } })),
    onSuccess: () => {
      setPassword("");
      return done(text("settings-password-is-set"));
    },
  });
  const error = patch.error ?? reset.error;
  return (
    <>
      <Dialog title={user?.name ?? ""} open={Boolean(user) && !deleting} onClose={onClose} foot={<Button weight="danger" onPress={() => setDeleting(true)}>{text("settings-user-delete")}</Button>}>
        {user && (
          <div className="stack">
            <Choose label={text("settings-role")} choices={roles} value={user.role as Role} onChange={(role) => patch.mutate({ role })} />
            <Switch value={!user.disabled} onChange={(on) => patch.mutate({ disabled: !on })}>{text("settings-may-sign-in")}</Switch>
            {!factors.data?.provider && (
              <>
                <Field label={text("settings-password-new")} type="password" value={password} onChange={setPassword} autoComplete="new-password" help={text("settings-password-length", { least: 12 })} />
                <span><Button isPending={reset.isPending} isDisabled={password.length < 12} onPress={() => reset.mutate()}>{text("settings-password-set")}</Button></span>
              </>
            )}
            {error ? <Fault error={error} /> : null}
            <Asked query={factors}>{(factors) => <UserFactors user={user} factors={factors} />}</Asked>
          </div>
        )}
      </Dialog>
      <Confirm
        title={text("settings-user-delete")} action={text("settings-user-delete")} danger open={deleting} onClose={() => setDeleting(false)}
        onConfirm={async () => {
          await ask(api.DELETE("/api/v1/users/{id}", { params: { path: { id } } }));
          onClose();
          await done(text("settings-user-deleted", { name: user?.name ?? "" }));
        }}
      >
        <p>{text("settings-user-delete-about", { name: user?.name ?? "" })}</p>
      </Confirm>
    </>
  );
}
