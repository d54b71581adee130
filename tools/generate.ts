/** `npm run generate`: writes every generated file anew; tools/check/generated.ts holds them so. */
import { writeAbi } from './generate-abi.ts';
import { writeCommandLine } from './generate-command-line.ts';
import { writeConfiguration } from './generate-configuration.ts';

await writeAbi();
writeConfiguration();
writeCommandLine();
