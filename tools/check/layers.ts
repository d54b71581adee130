/**
 * Who may import whom. {@link layers} is the only source of these rules: the import check, the
 * banned calls and tsconfig.pure.json all follow it.
 */
import { matchesGlob, posix } from 'node:path';
import type { Check, Finding } from './check.ts';
import type { Repository } from './repository.ts';
import { importsOf, isScript, sourceOf } from './source.ts';

/** What a layer may use besides other layers. `pure packages` compute and do nothing else. */
type Outside = 'nothing' | 'pure packages' | 'test tools' | 'packages' | 'everything';

const pureOutsides: readonly (Outside | undefined)[] = ['nothing', 'pure packages', 'test tools'];

export interface Layer {
  readonly name: string;
  /** The first layer with a matching pattern owns a file. */
  readonly files: readonly string[];
  /** Names of the other layers that it may import. */
  readonly imports: readonly string[];
  readonly outside: Outside;
  /** Ends the message of a wrong import: the reason and the way out. */
  readonly why: string;
}

/** The schema library and the YAML reader. */
const purePackages = /^(?:typebox|yaml)(?:\/|$)/;

const features = ['dhcp', 'dns', 'nat', 'traffic', 'capture', 'firewall', 'devices', 'shield'];
const belowFeatures = ['wire', 'abi', 'net'];
const belowGateway = [...features, ...belowFeatures];
const belowShell = ['gateway', 'messages', 'config', ...belowGateway];
const program = ['main', 'cli', 'api', 'linux', ...belowShell];

export const layers: readonly Layer[] = [
  {
    name: 'net',
    files: ['src/net/**'],
    imports: [],
    outside: 'nothing',
    why: 'src/net/ holds plain values at the bottom of everything and imports nothing',
  },
  {
    name: 'wire',
    files: ['src/wire/**'],
    imports: ['net'],
    outside: 'nothing',
    why: 'src/wire/ turns bytes into values and back; meaning is judged in the layers above',
  },
  {
    name: 'abi',
    files: ['src/abi/**'],
    imports: ['net'],
    outside: 'nothing',
    why: 'src/abi/ only describes the memory that the kernel programs share',
  },
  ...features.map(featureLayer),
  {
    name: 'config',
    files: ['src/config/**'],
    imports: ['net'],
    outside: 'pure packages',
    why:
      'src/config/ reads text and returns values: it knows no feature, and of packages only ' +
      'typebox and yaml; src/gateway/ makes of it what each feature wants',
  },
  {
    name: 'gateway',
    files: ['src/gateway/**'],
    imports: ['config', ...belowGateway],
    outside: 'nothing',
    why: 'src/gateway/ is a pure state machine over the features; src/linux/ performs its commands',
  },
  {
    name: 'messages',
    files: ['src/messages/**'],
    imports: [],
    outside: 'pure packages',
    why: 'src/messages/ is what two processes agree on, so it knows neither of them',
  },
  {
    name: 'linux',
    files: ['src/linux/**'],
    imports: belowShell,
    outside: 'everything',
    why: 'src/linux/ performs commands and does not know who asked; src/main.ts joins the two',
  },
  {
    name: 'api',
    files: ['src/api/**'],
    imports: belowShell,
    outside: 'everything',
    why: 'src/api/ gets what acts on the machine from src/main.ts, so its tests need no root',
  },
  {
    name: 'cli',
    files: ['src/cli/**'],
    imports: belowShell,
    outside: 'everything',
    why: 'src/cli/ gets what acts on the machine from src/main.ts, so its tests need no root',
  },
  {
    name: 'main',
    files: ['src/main.ts'],
    imports: program,
    outside: 'everything',
    why: 'the program stands without lab, tools, tests and benchmarks, which stay behind',
  },
  {
    name: 'testing',
    files: ['src/testing/**'],
    imports: belowShell,
    outside: 'test tools',
    why: 'src/testing/ simulates the world for pure code, so it is pure itself',
  },
  {
    name: 'setup',
    files: ['tools/**/*.mjs', 'bin/**'],
    imports: [],
    outside: 'everything',
    why: 'it runs on whatever Node is there, before the pinned one that reads TypeScript is found',
  },
  {
    name: 'lab',
    files: ['lab/**'],
    imports: ['linux', 'testing', ...belowFeatures],
    outside: 'everything',
    why: 'lab/ runs the product as a process of its own, as a user would, and knows no insides',
  },
  {
    name: 'tools',
    files: ['tools/**'],
    imports: ['lab', 'linux', 'setup', 'cli', 'config', ...belowFeatures],
    outside: 'everything',
    why: 'tools/ builds and checks the repository and does not depend on the features it checks',
  },
  {
    name: 'bench',
    files: ['bench/**'],
    imports: ['lab', 'testing', ...program],
    outside: 'everything',
    why: 'bench/ measures the product and the lab; it depends on no test and no tool',
  },
  {
    name: 'test',
    files: ['test/**'],
    imports: ['lab', 'tools', 'setup', 'bench', 'testing', ...program],
    outside: 'everything',
    why: 'test/ may use whatever it tests',
  },
  {
    name: 'web',
    files: ['web/**'],
    imports: [],
    outside: 'packages',
    why: 'web/ is a client of the API and shares no code with the server but what is generated',
  },
];

/** Modules that have one home, whatever the layer. */
const homes = [
  {
    module: 'node:ffi',
    files: ['src/linux/ffi.ts'],
    why: 'only src/linux/ffi.ts knows the experimental interface, so its changes end there',
  },
  {
    module: 'node:child_process',
    files: ['src/linux/command-runner.ts', 'tools/**'],
    why: 'programs are started through src/linux/command-runner.ts: no shell, with a time limit',
  },
];

const testTools = ['node:test', 'node:assert/strict', 'fast-check'];

export const layersCheck: Check = {
  name: 'layers',
  async run(repository) {
    const scripts = repository.paths.filter(isScript);
    return [
      ...scripts.flatMap((path) => findingsOfFile(repository, path)),
      ...cyclesAmong(repository, scripts),
      ...differencesToPureConfig(repository),
    ];
  },
};

export function layerOf(path: string): Layer | undefined {
  return layers.find(({ files }) => files.some((pattern) => matchesGlob(path, pattern)));
}

/** True where no clock, randomness or I/O may be touched: it comes as an argument. */
export function isPure(path: string): boolean {
  return pureOutsides.includes(layerOf(path)?.outside);
}

export function isTest(path: string): boolean {
  return path.endsWith('.test.ts');
}

function featureLayer(name: string): Layer {
  return {
    name,
    files: [`src/${name}/**`],
    imports: belowFeatures,
    outside: 'nothing',
    why:
      'a feature is a pure state machine that stands alone: features never import each other, ' +
      'src/gateway/ joins them and src/linux/ performs their commands',
  };
}

function findingsOfFile(repository: Repository, path: string): Finding[] {
  const layer = layerOf(path);
  if (layer === undefined) {
    const message = 'belongs to no layer: move it, or add its folder to tools/check/layers.ts';
    return [{ path, message }];
  }
  return importsOf(sourceOf(repository, path)).flatMap(({ specifier, line }) => {
    const message = objectionTo(specifier, path, layer);
    return message === undefined ? [] : [{ path, line, message }];
  });
}

function objectionTo(
  specifier: string | undefined,
  path: string,
  layer: Layer,
): string | undefined {
  if (specifier === undefined) {
    if (!path.startsWith('src/')) return undefined;
    return 'imports a computed path, which no check can follow: name the modules in a table';
  }
  const home = homes.find(({ module }) => module === specifier);
  if (home !== undefined && !home.files.some((pattern) => matchesGlob(path, pattern))) {
    return `imports ${specifier}: ${home.why}`;
  }
  if (!specifier.startsWith('.')) {
    return mayLeave(specifier, path, layer) ? undefined : `imports ${specifier}: ${layer.why}`;
  }
  const target = targetOf(specifier, path);
  const targetLayer = layerOf(target);
  if (targetLayer === undefined || targetLayer === layer) return undefined;
  if (isTest(target)) return `imports ${target}: a test is run, not imported`;
  const allowed = isTest(path) ? [...layer.imports, 'testing', 'test'] : layer.imports;
  return allowed.includes(targetLayer.name) ? undefined : `imports ${target}: ${layer.why}`;
}

function mayLeave(specifier: string, path: string, layer: Layer): boolean {
  if (isTest(path) || layer.outside === 'everything') return true;
  if (layer.outside === 'pure packages') return purePackages.test(specifier);
  if (layer.outside === 'packages') return !specifier.startsWith('node:');
  return layer.outside === 'test tools' && testTools.includes(specifier);
}

function targetOf(specifier: string, importer: string): string {
  return posix.join(posix.dirname(importer), specifier);
}

/** One finding for each group of files that import each other, naming one way around. */
function cyclesAmong(repository: Repository, scripts: readonly string[]): Finding[] {
  const targets = new Map(
    scripts.map((path) => {
      const references = importsOf(sourceOf(repository, path));
      const local = references.flatMap(({ specifier }) =>
        specifier?.startsWith('.') ? [targetOf(specifier, path)] : [],
      );
      return [path, local.filter((target) => repository.has(target))] as const;
    }),
  );
  const done = new Set<string>();
  const findings: Finding[] = [];
  const walk = (path: string, trail: readonly string[]): void => {
    const start = trail.indexOf(path);
    if (start >= 0) {
      const way = [...trail.slice(start), path].join(' → ');
      const message = `import cycle ${way}: none of them can be read or loaded first`;
      findings.push({ path, message });
    }
    if (start >= 0 || done.has(path)) return;
    for (const target of targets.get(path) ?? []) walk(target, [...trail, path]);
    done.add(path);
  };
  for (const path of scripts) walk(path, []);
  return findings;
}

/** tsconfig.pure.json lists folders again, since tsc cannot read {@link layers}. */
function differencesToPureConfig(repository: Repository): Finding[] {
  const path = 'tsconfig.pure.json';
  if (!repository.has(path)) return [];
  const { include } = JSON.parse(repository.text(path)) as { include: string[] };
  const kinds: readonly Outside[] = ['nothing', 'pure packages'];
  const pure = layers.filter(({ outside }) => kinds.includes(outside)).map(({ name }) => name);
  const wanted = pure.map((name) => `src/${name}`);
  const missing = wanted.filter((folder) => !include.includes(folder));
  const extra = include.filter((folder) => !wanted.includes(folder));
  return [
    ...missing.map((folder) => `lacks ${folder}, a pure layer in tools/check/layers.ts`),
    ...extra.map((folder) => `includes ${folder}, which is no pure layer in tools/check/layers.ts`),
  ].map((message) => ({ path, message }));
}
