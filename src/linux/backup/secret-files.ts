/** Files with secrets that a config names: keys of the shield, and of the API's certificate. */
import { migrateConfig } from '../../config/migrate-config.ts';
import { parseConfig } from '../../config/parse-config.ts';
import { isPartPath } from './part-path.ts';

export interface NamedSecrets {
  /** Below the config's folder, as seen from there, each once. */
  readonly inside: readonly string[];
  /** Elsewhere: absolute paths, which a backup never holds. */
  readonly outside: readonly string[];
  /** False when the config has problems, and so nobody knows what it names. */
  readonly areKnown: boolean;
}

/** @param configText of this version or an older one; none of both for one that has problems */
export function namedSecrets(configText: string): NamedSecrets {
  const options = { fileName: 'config' };
  const { text = configText } = migrateConfig(configText, options);
  const { config } = parseConfig(text, options);
  const paths = [
    config?.gatekeeper?.keys,
    config?.grantor?.keys,
    config?.api.tls.mode === 'files' ? config.api.tls.key : undefined,
  ].filter((path) => path !== undefined);
  const all = [...new Set(paths)].toSorted();
  return {
    inside: all.filter(isPartPath),
    areKnown: config !== undefined,
    outside: all.filter((path) => !isPartPath(path)),
  };
}
