// The nonce of this page, for the few styles that libraries make while they run.
export const nonce = () => document.querySelector<HTMLMetaElement>('meta[property="csp-nonce"]')?.nonce ?? "";
