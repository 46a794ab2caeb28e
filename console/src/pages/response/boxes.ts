// Reads playbooks' texts with the YAML reader, which is fetched when the first one is shown.
import { useQuery } from "@tanstack/react-query";

/** The boxes of a text; what is wrong with it as an error. */
export function useBoxes(text: string | undefined) {
  return useQuery({
    queryKey: ["boxes", text],
    queryFn: async () => {
      const reader = await import("./parse");
      return { ...reader, boxes: reader.parse(text!) };
    },
    enabled: Boolean(text),
    staleTime: Infinity,
    retry: false,
  });
}
