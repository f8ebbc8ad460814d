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

/** A screen that is shared, of which nothing is ever seen. */
class NoMedia {
    getTracks() {
        return []
    }

    getVideoTracks() {
        return []
    }
}

/** The time by which the library repeats things: nobody waits for 40 s, it goes on when it is told to. */
export class Hours {
    #now = 0
    #timers = []

    start(run, every) {
        return this.#timers.push({ run, every, next: this.#now + every }) - 1
    }

    stop(at) {
        delete this.#timers[at]
    }

    /** Milliseconds, as asked for. */
    intervals() {
        return this.#timers.flatMap(timer => [timer.every])
    }

    /** Runs what falls due in so many milliseconds, in its order. */
    pass(time) {
        const end = this.#now + time
        for (;;) {
            const due = this.#timers.filter(timer => timer.next <= end).sort((a, b) => a.next - b.next)[0]
            if (!due) break
            this.#now = due.next
            due.next += due.every
            due.run()
        }
        this.#now = end
    }
}

/**
 * Makes the globals. `told(name, data)` is shown each event of a stream before the library is; the
 * library's intervals are counted by `hours`.
 */
export function dress(host, told, hours) {
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
        MediaStream: NoMedia,
        setInterval: (run, every) => hours.start(run, every),
        clearInterval: at => hours.stop(at),
    })
}
