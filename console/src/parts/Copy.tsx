// Text that is meant to be copied: a command, an id, a token that is shown once.
import { Check, Copy as CopyIcon } from "lucide-react";
import { useState } from "react";
import { useText } from "../i18n/words";
import { Button } from "./Button";
import css from "./Copy.module.css";

export function Copy({ children, label }: { children: string; label: string }) {
  const text = useText();
  const [copied, setCopied] = useState(false);
  const copy = async () => {
    await navigator.clipboard.writeText(children);
    setCopied(true);
    setTimeout(() => setCopied(false), 2_000);
  };
  return (
    <div className={css.box}>
      <pre tabIndex={0} aria-label={label}>{children}</pre>
      <Button weight="quiet" icon={copied ? <Check /> : <CopyIcon />} label={copied ? text("copied") : text("copy")} onPress={() => void copy()} />
    </div>
  );
}
