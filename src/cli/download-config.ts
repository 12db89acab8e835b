import { boolean, type ConfigOf, text } from "../config/fields.ts";

/** Settings of `tschat download`. */
export const downloadFields = {
  id: text({ hint: "<org/name>", help: "model or data set: org/name, org/name@revision, and :file.gguf or :split behind it" }),
  dataset: boolean({ default: false, help: "download a data set" }),
};

/** Configuration of a download. */
export type DownloadConfig = ConfigOf<typeof downloadFields>;
