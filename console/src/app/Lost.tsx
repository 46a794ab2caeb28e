// An address without a page, or a page that broke. What was typed elsewhere is not touched.
import { isRouteErrorResponse, useRouteError } from "react-router";
import { Compass } from "lucide-react";
import { useText } from "../i18n/words";
import { Button } from "../parts/Button";
import { Page } from "../parts/Page";
import { Empty, Fault } from "../parts/State";

export function Lost() {
  const text = useText();
  const error = useRouteError();
  // Where nothing was thrown it is null.
  if (error != null && !isRouteErrorResponse(error)) {
    return (
      <Page title={text("page-broken")}>
        <Fault error={error} onRetry={() => location.reload()} />
      </Page>
    );
  }
  return (
    <Page title={text("page-lost")}>
      <Empty icon={<Compass />} title={text("page-lost")} action={<Button onPress={() => history.back()}>{text("back")}</Button>}>
        {text("page-lost-about")}
      </Empty>
    </Page>
  );
}
