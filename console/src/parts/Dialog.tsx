// What lies above the page: a dialog that asks, a drawer that shows one thing of a list.
import { Dialog as Primitive, Heading, Modal, ModalOverlay } from "react-aria-components";
import { X } from "lucide-react";
import { useState, type ReactNode } from "react";
import { useText } from "../i18n/words";
import { Button } from "./Button";
import { Fault } from "./State";
import css from "./Dialog.module.css";

interface Props {
  title: ReactNode;
  open: boolean;
  onClose: () => void;
  children: ReactNode;
  /** Buttons below. */
  foot?: ReactNode;
}

function Overlay({ title, open, onClose, children, foot, look }: Props & { look: string }) {
  const text = useText();
  return (
    <ModalOverlay isOpen={open} onOpenChange={(open) => !open && onClose()} isDismissable className={`${css.overlay} ${look}`}>
      <Modal className={css.modal!}>
        <Primitive className={css.dialog!}>
          <header className={css.head}>
            <Heading slot="title" level={2} className={css.title!}>{title}</Heading>
            <Button weight="quiet" icon={<X />} label={text("close")} onPress={onClose} />
          </header>
          <div className={css.body}>{children}</div>
          {foot && <footer className={css.foot}>{foot}</footer>}
        </Primitive>
      </Modal>
    </ModalOverlay>
  );
}

export const Dialog = (props: Props) => <Overlay {...props} look={css.middle!} />;
export const Drawer = (props: Props) => <Overlay {...props} look={css.side!} />;

interface ConfirmProps {
  title: string;
  /** What will happen, and whether it can be taken back. */
  children: ReactNode;
  action: string;
  danger?: boolean;
  open: boolean;
  onClose: () => void;
  /** Does it; what it throws is shown and the dialog stays. */
  onConfirm: () => Promise<unknown>;
  isDisabled?: boolean;
}

/** Asks before something is done, says what went wrong, and closes once it is done. */
export function Confirm({ title, children, action, danger, open, onClose, onConfirm, isDisabled }: ConfirmProps) {
  const text = useText();
  const [state, setState] = useState<{ busy: boolean; fault?: unknown }>({ busy: false });
  const close = () => {
    setState({ busy: false });
    onClose();
  };
  const confirm = async () => {
    setState({ busy: true });
    try {
      await onConfirm();
      close();
    } catch (fault) {
      setState({ busy: false, fault });
    }
  };
  const buttons = (
    <>
      <Button onPress={close}>{text("cancel")}</Button>
      <Button weight={danger ? "danger" : "primary"} isPending={state.busy} isDisabled={isDisabled} onPress={() => void confirm()}>
        {action}
      </Button>
    </>
  );
  return (
    <Dialog title={title} open={open} onClose={close} foot={buttons}>
      <div className="stack">
        {children}
        {state.fault !== undefined && <Fault error={state.fault} />}
      </div>
    </Dialog>
  );
}
