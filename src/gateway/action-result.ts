/** How something ended that a person asked for: lines for them, or why it was not done. */
export type ActionResult =
  | { readonly success: true; readonly lines: readonly string[] }
  | { readonly success: false; readonly reason: string };
