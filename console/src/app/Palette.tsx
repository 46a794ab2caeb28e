// The command palette: every page and every common deed by typing a part of its name.
import { Dialog, Input, ListBox, ListBoxItem, Modal, ModalOverlay, Autocomplete, TextField, useFilter } from "react-aria-components";
import { useNavigate } from "react-router";
import { LANGUAGES, useText, type Language } from "../i18n/words";
import { ENROL, toSearch } from "./links";
import { pages } from "./pages";
import { useSession, useSpeak } from "./session";
import { useTheme } from "./theme";
import css from "./Palette.module.css";

export function Palette({ open, onClose }: { open: boolean; onClose: () => void }) {
  const text = useText();
  const navigate = useNavigate();
  const { can, leave } = useSession();
  const speak = useSpeak();
  const [, setTheme] = useTheme();
  const { contains } = useFilter({ sensitivity: "base" });
  const deeds = [
    ...pages.filter((page) => can(page.permission)).map((page) => ({
      id: page.id, name: text(`page-${page.id}`), keys: `g ${page.key}`, do: () => void navigate(page.path),
    })),
    { id: "search-alerts", name: text("palette-alerts"), keys: "/", do: () => void navigate(toSearch("alerts")) },
    { id: "enrol", name: text("palette-enrol"), keys: "", do: () => void navigate(ENROL) },
    ...(Object.keys(LANGUAGES) as Language[]).map((id) => ({ id, name: LANGUAGES[id], keys: "", do: () => speak(id) })),
    { id: "light", name: text("theme-light"), keys: "", do: () => setTheme("light") },
    { id: "dark", name: text("theme-dark"), keys: "", do: () => setTheme("dark") },
    { id: "leave", name: text("sign-out"), keys: "", do: () => void leave() },
  ];
  return (
    <ModalOverlay isOpen={open} onOpenChange={(open) => !open && onClose()} isDismissable className={css.overlay!}>
      <Modal className={css.modal!}>
        <Dialog aria-label={text("palette")} className={css.dialog!}>
          <Autocomplete filter={contains}>
            <TextField aria-label={text("palette")} autoFocus className={css.field!}>
              <Input className={css.input!} placeholder={text("palette-hint")} />
            </TextField>
            {/* What scrolls can be reached by keyboard, also where the list's own focus is only said to be in it. */}
            <div className={css.list} tabIndex={0}>
              <ListBox
                aria-label={text("palette")} items={deeds} selectionMode="none"
                onAction={(key) => {
                  onClose();
                  deeds.find((deed) => deed.id === key)?.do();
                }}
                renderEmptyState={() => <p className={css.none}>{text("palette-none")}</p>}
              >
                {(deed) => (
                  <ListBoxItem id={deed.id} textValue={deed.name} className={css.item!}>
                    <span className="grow">{deed.name}</span>
                    {deed.keys && <kbd>{deed.keys}</kbd>}
                  </ListBoxItem>
                )}
              </ListBox>
            </div>
          </Autocomplete>
        </Dialog>
      </Modal>
    </ModalOverlay>
  );
}
