const files = import.meta.glob("./en/*.ftl", { query: "?raw", import: "default", eager: true });
export default Object.values(files) as string[];
