// Who may come in and as what, cloud accounts, messages to people, secrets, the audit log, backup. A tab a subject; what one may
// not see is not there.
import { useSession } from "../../app/session";
import { useText } from "../../i18n/words";
import { Page } from "../../parts/Page";
import { Tabs } from "../../parts/Tabs";
import { Audit } from "./Audit";
import { Backup } from "./Backup";
import { Bouncers } from "./Bouncers";
import { Cloud } from "./Cloud";
import { Notifications } from "./Notifications";
import { Own } from "./Own";
import { Secrets } from "./Secrets";
import { Tokens } from "./Tokens";
import { Users } from "./Users";

const TABS = [
  { id: "own", permission: "session:read", content: () => <Own /> },
  { id: "users", permission: "users:read", content: () => <Users /> },
  { id: "tokens", permission: "tokens:read", content: () => <Tokens /> },
  { id: "cloud", permission: "cloud:read", content: () => <Cloud /> },
  { id: "notifications", permission: "messages:read", content: () => <Notifications /> },
  { id: "bouncers", permission: "bouncers:read", content: () => <Bouncers /> },
  { id: "secrets", permission: "secrets:read", content: () => <Secrets /> },
  { id: "audit", permission: "audit:read", content: () => <Audit /> },
  { id: "backup", permission: "backups:create", content: () => <Backup /> },
];

export default function Settings() {
  const text = useText();
  const { can } = useSession();
  const tabs = TABS.filter((tab) => can(tab.permission)).map((tab) => ({ ...tab, title: text(`settings-${tab.id}`) }));
  return (
    <Page title={text("page-settings")}>
      <Tabs label={text("page-settings")} tabs={tabs} />
    </Page>
  );
}
