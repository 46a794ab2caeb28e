// One setting's value, by its kind in the schema.
import { useState } from "react";
import { useText } from "../../i18n/words";
import { Choose, Field, Switch } from "../../parts/Field";
import type { Form } from "./Policies";

interface Props {
  form: Form;
  label: string;
  value: unknown;
  isDisabled: boolean;
  onChange: (value: unknown) => void;
}

export function Value({ form, label, value, isDisabled, onChange }: Props) {
  const text = useText();
  if (form.enum) {
    return <Choose bare label={label} isDisabled={isDisabled} value={String(value)} choices={form.enum.map((id) => ({ id, name: id }))} onChange={onChange} />;
  }
  if (form.type === "boolean") return <Switch value={value === true} isDisabled={isDisabled} onChange={onChange}>{text(value === true ? "policies-yes" : "policies-no")}</Switch>;
  if (form.type === "integer") return <Whole {...{ form, label, value, isDisabled, onChange }} />;
  if (form.type === "array" && (form.items?.type === "string" || form.items?.type === "integer") && Array.isArray(value)) {
    return <Lines {...{ form, label, value, isDisabled, onChange }} />;
  }
  return <Any {...{ form, label, value, isDisabled, onChange }} />;
}

function Whole({ form, label, value, isDisabled, onChange }: Props) {
  const text = useText();
  const [typed, setTyped] = useState(String(value));
  const number = Number(typed);
  const { minimum = 0, maximum = Number.MAX_SAFE_INTEGER } = form;
  const wrong = typed.trim() === "" || !Number.isInteger(number) || number < minimum || number > maximum;
  return (
    <Field
      bare label={label} help={form["x-unit"]} type="number" value={typed} isDisabled={isDisabled}
      fault={wrong ? text("policies-between", { least: minimum, most: maximum }) : undefined}
      onChange={(typed) => {
        setTyped(typed);
        const number = Number(typed);
        if (typed.trim() !== "" && Number.isInteger(number) && number >= minimum && number <= maximum) onChange(number);
      }}
    />
  );
}

function Lines({ form, label, value, isDisabled, onChange }: Props) {
  const text = useText();
  const [typed, setTyped] = useState((value as unknown[]).join("\n"));
  const numbers = form.items?.type === "integer";
  const lines = typed.split("\n").map((line) => line.trim()).filter(Boolean);
  return (
    <Field
      bare label={label} help={text("policies-one-a-line")} lines={Math.min(6, lines.length + 2)} code value={typed} isDisabled={isDisabled}
      fault={numbers && lines.some((line) => !/^\d+$/.test(line)) ? text("policies-numbers") : undefined}
      onChange={(typed) => {
        setTyped(typed);
        const lines = typed.split("\n").map((line) => line.trim()).filter(Boolean);
        if (!numbers) onChange(lines);
        else if (lines.every((line) => /^\d+$/.test(line))) onChange(lines.map(Number));
      }}
    />
  );
}

/** Whatever has no form of its own is edited as JSON. */
function Any({ label, value, isDisabled, onChange }: Props) {
  const text = useText();
  const [typed, setTyped] = useState(JSON.stringify(value, null, 2));
  let wrong = false;
  try {
    JSON.parse(typed);
  } catch {
    wrong = true;
  }
  return (
    <Field
      bare label={label} lines={6} code value={typed} isDisabled={isDisabled} fault={wrong ? text("policies-broken") : undefined}
      onChange={(typed) => {
        setTyped(typed);
        try {
          onChange(JSON.parse(typed));
        } catch {
          // until it is whole, the former value stands
        }
      }}
    />
  );
}
