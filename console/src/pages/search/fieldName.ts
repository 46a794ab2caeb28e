// Names of the usual columns; any other field is called as it is searched for.
import { useNamed } from "../../i18n/words";

export function useFieldName() {
  const named = useNamed();
  return (field: string) => {
    const id = field.replaceAll(".", "-");
    const name = named("search-field", id);
    return name === id ? field : name;
  };
}
