// A backup is one command on the manager's machine; it streams, so a browser is not the place for it.
import { useText } from "../../i18n/words";
import { Copy } from "../../parts/Copy";
import { Panel } from "../../parts/Page";

export function Backup() {
  const text = useText();
  return (
    <div className="stack wide">
      <Panel title={text("settings-backup-make")} about={text("settings-backup-make-about")}>
        <Copy label={text("settings-command")}>sakimori backup /safe/place/sakimori.tar</Copy>
      </Panel>
      <Panel title={text("settings-backup-restore")} about={text("settings-backup-restore-about")}>
        <Copy label={text("settings-command")}>sakimori restore /safe/place/sakimori.tar</Copy>
      </Panel>
    </div>
  );
}
