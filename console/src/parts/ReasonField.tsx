// Why something is changed, for those who read its history. The manager takes a thousand bytes, and a Japanese letter has three.
import { useText } from "../i18n/words";
import { Field } from "./Field";

const MOST = 330;

interface Props {
  value: string;
  onChange: (reason: string) => void;
  /** Where it will stand. */
  help?: string;
}

export function ReasonField(props: Props) {
  return <Field {...props} label={useText()("reason")} maxLength={MOST} />;
}
