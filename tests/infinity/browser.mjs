// The little of a browser that a participant without media needs: no screen, no media, a network.

import {createRequire} from 'node:module'

const Streams = createRequire(import.meta.url)('eventsource')

/** A connection over which no media ever goes. */
class NoPeerConnection extends EventTarget {
    connectionState = 'new'
    iceConnectionState = 'new'
    iceGatheringState = 'new'
    signalingState = 'stable'
    localDescription = null
    remoteDescription = null

    getTransceivers() {
        return []
    }

    getSenders() {
        return []
    }

    getReceivers() {
        return []
    }

    close() {
        this.signalingState = 'closed'
        this.dispatchEvent(new Event('close'))
    }
}

/**
 * Makes the globals. `told(name, data)` is shown each event of a stream before the library is;
 * `timers` are those intervals which the library starts: nobody waits for 40 s, the test says when.
 */
export function dress(host, told, timers) {
    class Stream extends Streams {
        // A browser gives each event a task of its own. Here "open" and the first events come as one,
        // and the library, which listens when what "open" resolves is done, would miss them.
        addEventListener(name, listener) {
            super.addEventListener(name, event => {
                setImmediate(() => {
                    if (event.data !== undefined) told(name, event.data)
                    listener(event)
                })
            })
        }
    }
    Object.assign(globalThis, {
        window: globalThis,
        document: { baseURI: `${host}/webapp/` },
        EventSource: Stream,
        RTCPeerConnection: NoPeerConnection,
        setInterval(run, every) {
            timers.push({ run, every })
            return timers.length - 1
        },
        clearInterval(at) {
            delete timers[at]
        },
    })
}
