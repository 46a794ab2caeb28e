// What is typed or chosen: a label above, a sentence below, the manager's fault where there is one.
import {
  Checkbox as CheckboxPrimitive, FieldError, Input, Label, ListBox, ListBoxItem, Popover, Select as SelectPrimitive,
  SelectValue, Switch as SwitchPrimitive, Text, TextArea as TextAreaPrimitive, TextField as TextFieldPrimitive, Button,
  type TextFieldProps,
} from "react-aria-components";
import { Check, ChevronDown } from "lucide-react";
import type { ReactNode } from "react";
import css from "./Field.module.css";

interface Common {
  label: string;
  /** What it is for, under it. */
  help?: string;
  /** What is wrong with it. */
  fault?: string;
}

interface TypedProps extends Common, Omit<TextFieldProps, "className" | "children" | "isInvalid"> {
  placeholder?: string;
  /** More than one line. */
  lines?: number;
  code?: boolean;
  /** The label is for screen readers only, where it is written beside already. */
  bare?: boolean;
}

export function Field({ label, help, fault, placeholder, lines, code, bare, ...props }: TypedProps) {
  const look = `${css.input} ${code ? css.code : ""}`;
  return (
    <TextFieldPrimitive {...props} aria-label={bare ? label : undefined} isInvalid={Boolean(fault)} className={css.field!}>
      {!bare && <Label className={css.label!}>{label}</Label>}
      {lines ? (
        <TextAreaPrimitive className={look} rows={lines} placeholder={placeholder} />
      ) : (
        <Input className={look} placeholder={placeholder} />
      )}
      {help && <Text slot="description" className={css.help!}>{help}</Text>}
      <FieldError className={css.fault!}>{fault}</FieldError>
    </TextFieldPrimitive>
  );
}

export interface Choice<K extends string = string> {
  id: K;
  name: string;
  about?: string;
}

interface ChosenProps<K extends string> extends Common {
  choices: readonly Choice<K>[];
  value: K;
  onChange: (value: K) => void;
  /** The label is for screen readers only. */
  bare?: boolean;
  isDisabled?: boolean;
}

export function Choose<K extends string>({ label, help, fault, choices, value, onChange, bare, isDisabled }: ChosenProps<K>) {
  return (
    <SelectPrimitive
      className={css.field!} isInvalid={Boolean(fault)} isDisabled={isDisabled} aria-label={bare ? label : undefined}
      selectedKey={value} onSelectionChange={(key) => key !== null && onChange(key as K)}
    >
      {!bare && <Label className={css.label!}>{label}</Label>}
      <Button className={`${css.input} ${css.select}`}>
        <SelectValue className={css.value!} />
        <ChevronDown size={16} aria-hidden />
      </Button>
      {help && <Text slot="description" className={css.help!}>{help}</Text>}
      <FieldError className={css.fault!}>{fault}</FieldError>
      <Popover className={css.popover!} offset={4}>
        <ListBox className={css.list!} items={choices}>
          {(choice) => (
            <ListBoxItem id={choice.id} textValue={choice.name} className={css.item!}>
              <span className={css.tick} aria-hidden><Check size={14} /></span>
              <span>
                <Text slot="label">{choice.name}</Text>
                {choice.about && <Text slot="description" className={css.help!}>{choice.about}</Text>}
              </span>
            </ListBoxItem>
          )}
        </ListBox>
      </Popover>
    </SelectPrimitive>
  );
}

interface OnOffProps {
  children: ReactNode;
  value: boolean;
  onChange: (value: boolean) => void;
  isDisabled?: boolean;
}

/** What is in effect at once. */
export function Switch({ children, value, onChange, isDisabled }: OnOffProps) {
  return (
    <SwitchPrimitive className={css.switch!} isSelected={value} onChange={onChange} isDisabled={isDisabled}>
      <span className={css.track} aria-hidden />
      {children}
    </SwitchPrimitive>
  );
}

/** What is in effect once a form is sent. */
export function Tick({ children, value, onChange, isDisabled }: OnOffProps) {
  return (
    <CheckboxPrimitive className={css.switch!} isSelected={value} onChange={onChange} isDisabled={isDisabled}>
      <span className={css.box} aria-hidden><Check size={12} /></span>
      {children}
    </CheckboxPrimitive>
  );
}
