const files = import.meta.glob("./ja/*.ftl", { query: "?raw", import: "default", eager: true });
export default Object.values(files) as string[];
