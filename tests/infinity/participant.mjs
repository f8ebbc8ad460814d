// One participant by the client library, driven by lines of JSON. The library's signals are of its
// module: a participant is a process.
//
//     node participant.mjs https://127.0.0.1:443
//
// takes  {"id", "call": a method of the client, "with": its argument}
// tells  {"id", "value" | "error"}, {"signal", "value"}, {"logged": a warning or worse}, and
//        {"violation"} when something does not fit the library's own schema.

import {register} from 'node:module'
import {createInterface} from 'node:readline'
import {dress, Hours} from './browser.mjs'

const [host] = process.argv.slice(2)
const tell = line => process.stdout.write(`${JSON.stringify(line)}\n`)

register('./resolve.mjs', import.meta.url)
const hours = new Hours()
let schema
dress(host, (name, data) => check(name, data), hours)
const library = await import('@pexip/infinity')
schema = await import('@pexip/infinity-api/dist/conference/validation.js')

/** The library takes events as they come. They are made of the same as answers, which it checks. */
function check(name, data) {
    let checks
    try {
        const value = JSON.parse(data)
        if (name === 'participant_create' || name === 'participant_update') {
            checks = [schema.validateParticipants200, [value]]
        } else if (name === 'conference_update') {
            checks = [schema.validateConferenceStatus200, value]
        }
        tell({ event: name, value })
    } catch (fault) {
        tell({ violation: `${name}: ${data}: ${fault}` })
    }
    if (checks) {
        const [good, result] = checks
        if (!good({ status: 'success', result })) {
            tell({ violation: `${name}: ${JSON.stringify(good.errors)}` })
        }
    }
}

/** What went wrong, wherever the library put it. */
function complain(meta, message) {
    const fault = meta?.error ?? meta
    const text = `${message ?? ''} ${fault?.stack ?? JSON.stringify(fault) ?? ''}`
    tell(violates(fault) ? { violation: text } : { logged: text })
}

/** An answer or an event that the library cannot take. A road that is cut is a TypeError as well. */
function violates(fault) {
    const kinds = ['ValidationError', 'NonJSONResponseError', 'SyntaxError', 'TypeError']
    return kinds.includes(fault?.name) && fault.message !== 'fetch failed'
}

process.on('unhandledRejection', fault => complain(fault, 'nobody caught'))
process.on('uncaughtException', fault => complain(fault, 'nobody caught'))

// The packages below the library log here.
const quiet = () => {}
Object.assign(console, { debug: quiet, log: quiet, info: quiet })
console.warn = console.error = (message, meta) => complain(meta, message)
library.setLogger({
    fatal: complain,
    error: complain,
    warn: complain,
    info: quiet,
    debug: quiet,
    trace: quiet,
    silent: quiet,
    redact: text => text,
    addRedactPattern: quiet,
})

const signals = library.createInfinityClientSignals([], { batchScheduleTimeoutMS: 20, batchBufferSize: 10 })
const calls = library.createCallSignals([])
for (const [name, signal] of Object.entries(signals)) {
    signal.add(value => tell({ signal: name, value: value ?? null }))
}
for (const signal of Object.values(calls)) signal.add(quiet)
// Whether it shows slides or is shown them: "connecting", "connected", "disconnected", "failed".
calls.onPresentationConnectionChange.add(value => tell({ signal: 'slides', value: { ...value } }))
const client = library.createInfinityClient(signals, calls)

/** What is not the library's: time, and what a browser has to show. */
const own = {
    intervals: () => hours.intervals(),
    pass: time => hours.pass(time),
    present: () => client.present(new MediaStream()),
    call: given =>
        client.call({ callType: library.ClientCallType.None, bandwidth: 0, node: new URL(host).host, host, ...given }),
    status: () => client.conferenceStatus.get(library.MAIN_ROOM_ID),
}

createInterface({ input: process.stdin }).on('line', async line => {
    const { id, call, with: given } = JSON.parse(line)
    try {
        const value = await (own[call] ?? client[call])(given)
        tell({ id, value: value ?? null })
    } catch (fault) {
        tell({ id, error: `${fault}` })
        if (violates(fault)) complain(fault, call)
    }
}).on('close', () => process.exit(0))
tell({ ready: process.version })
