// Cloud accounts of the configuration, and whether the manager's role in each may do what the actions need.
import { useMutation, useQuery } from "@tanstack/react-query";
import { Cloud as CloudIcon } from "lucide-react";
import { api, ask, type Schemas } from "../../api/client";
import { useSession } from "../../app/session";
import { useNamed, useText } from "../../i18n/words";
import { Button } from "../../parts/Button";
import { Copy } from "../../parts/Copy";
import { Facts, Panel } from "../../parts/Page";
import { Asked, Badge, Dot, Empty, Fault } from "../../parts/State";

export function Cloud() {
  const text = useText();
  const accounts = useQuery({ queryKey: ["cloud"], queryFn: () => ask(api.GET("/api/v1/cloud/accounts")) });
  return (
    <Asked query={accounts}>
      {({ items }) =>
        items.length === 0 ? (
          <Panel>
            <Empty icon={<CloudIcon />} title={text("settings-no-account")} action={<Copy label={text("settings-command")}>sakimori cloud add --help</Copy>}>{text("settings-no-account-about")}</Empty>
          </Panel>
        ) : (
          <div className="stack wide">{items.map((account) => <Account key={account.name} account={account} />)}</div>
        )
      }
    </Asked>
  );
}

function Account({ account }: { account: Schemas["CloudAccount"] }) {
  const text = useText();
  const { can } = useSession();
  const named = useNamed();
  const check = useMutation({ mutationFn: () => ask(api.POST("/api/v1/cloud/check", { body: { account: account.name, actions: [] } })) });
  const found = check.data?.items[0];
  return (
    <Panel title={account.name} actions={can("cloud:check") && <Button isPending={check.isPending} onPress={() => check.mutate()}>{text("settings-check")}</Button>}>
      <div className="stack">
        <Facts
          items={[
            [text("settings-account-id"), <span className="mono">{account.account_id ?? "—"}</span>],
            [text("settings-region"), account.region],
            [text("settings-role"), <span className="mono">{account.role_arn ?? text("settings-own-credentials")}</span>],
            [text("actions"), <span className="row">{account.actions.map((action) => <Badge key={action}>{named("response-action", action)}</Badge>)}</span>],
          ]}
        />
        {check.error ? <Fault error={check.error} /> : null}
        {found && (
          <>
            <Dot tone={found.ok ? "good" : "care"}>{found.ok ? text("settings-check-ok") : text("settings-check-lacks")}</Dot>
            {found.caller && <p className="mono small">{found.caller}</p>}
            {found.remarks.map((remark) => <p key={remark}>{remark}</p>)}
          </>
        )}
      </div>
    </Panel>
  );
}
