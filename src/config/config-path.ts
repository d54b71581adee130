/** Where a value stands in the config: keys of mappings and indices of lists, outermost first. */

/** A string is a key, a number an index from zero. The empty path is the whole config. */
export type ConfigPath = readonly (string | number)[];

const plainKey = /^[A-Za-z_][A-Za-z0-9_-]*$/;

/** Writes `networks.lan.dhcp.range`, `portForwards[0].to`, `networks["odd key"]`. */
export function formatConfigPath(path: ConfigPath): string {
  let text = '';
  for (const step of path) {
    if (typeof step === 'number') text += `[${step}]`;
    else if (!plainKey.test(step)) text += `[${quoteKey(step)}]`;
    else text += text === '' ? step : `.${step}`;
  }
  return text;
}

/** Reads what {@link formatConfigPath} writes. @returns undefined for everything else */
export function parseConfigPath(text: string): ConfigPath | undefined {
  const step =
    /(?:^|\.)(?<key>[A-Za-z_][A-Za-z0-9_-]*)|\[(?:(?<index>0|[1-9][0-9]{0,8})|(?<quoted>"(?:[^"\\]|\\.)*"))\]/y;
  const path: (string | number)[] = [];
  while (step.lastIndex < text.length) {
    const found = step.exec(text)?.groups;
    if (found === undefined) return undefined;
    if (found['key'] !== undefined) path.push(found['key']);
    else if (found['index'] !== undefined) path.push(Number(found['index']));
    else path.push(unquote(found['quoted'] ?? ''));
  }
  return formatConfigPath(path) === text ? path : undefined;
}

/** JSON's form in ASCII, so that keys that look alike are told apart. */
function quoteKey(key: string): string {
  return JSON.stringify(key).replace(/[^\x20-\x7e]/g, (character) => {
    return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
  });
}

/** A mistake shows when the path is written again. */
function unquote(quoted: string): string {
  try {
    return JSON.parse(quoted) as string;
  } catch {
    return '';
  }
}
