"""Scores a recording against what was played: score.py PLAYED HEARD RATE

Both are files of 16-bit mono sound at RATE, 8000 or 16000 Hz. Prints {"pesq": ..., "stoi": ...}:
PESQ as ITU-T P.862 at 8000 Hz and P.862.2 at 16000 Hz, STOI as Taal et al., 2011. The two scales
of PESQ do not compare.
"""

import json
import sys
import wave

import numpy as np
from pesq import pesq
from pystoi import stoi
from scipy.signal import correlate

# Of silence that parts two sentences, and around each of them.
PAUSE, MARGIN = 0.25, 0.1
# How far a playout may move one sentence against the recording as a whole.
SHIFT = 0.4


def read(path, rate):
    with wave.open(path) as file:
        assert file.getframerate() == rate and file.getnchannels() == 1, path
        return np.frombuffer(file.readframes(file.getnframes()), np.int16).astype(np.float64)


def offset(played, heard):
    """Where in `heard` `played` begins; both are padded, so that an end may be missing."""
    return int(np.argmax(correlate(heard, played, "full", "fft"))) - len(played) + 1


def cut(sound, start, length):
    """That many samples from `start`, which may lie before the beginning; silence beyond it."""
    padded = np.concatenate([np.zeros(max(0, -start)), sound[max(0, start):]])[:length]
    return np.concatenate([padded, np.zeros(length - len(padded))])


def sentences(played, rate):
    step = rate // 100
    loud = [np.sqrt(np.mean(part**2)) > 50 for part in played[: len(played) // step * step].reshape(-1, step)]
    found, begin, last = [], None, None
    for index, is_loud in enumerate(loud):
        if is_loud:
            begin, last = (index if begin is None else begin), index
        elif begin is not None and index - last > PAUSE * 100:
            found.append((begin * step, last * step))
            begin = None
    if begin is not None:
        found.append((begin * step, last * step))
    margin = int(MARGIN * rate)
    return [(max(0, a - margin), b + margin) for a, b in found]


def main():
    rate = int(sys.argv[3])
    played, heard = read(sys.argv[1], rate), read(sys.argv[2], rate)
    whole = offset(played, heard)
    # STOI compares moments: each sentence is laid over its own.
    pairs = []
    for begin, end in sentences(played, rate):
        part, reach = played[begin:end], int(SHIFT * rate)
        near = cut(heard, whole + begin - reach, end - begin + 2 * reach)
        pairs.append((part, cut(near, offset(part, near), end - begin)))
    assert len(pairs) >= 3, "there are not enough sentences"
    a, b = (np.concatenate(sides) for sides in zip(*pairs))
    print(json.dumps({
        "pesq": float(pesq(rate, played, cut(heard, whole, len(played)), "wb" if rate == 16000 else "nb")),
        "stoi": float(stoi(a, b, rate)),
    }))


main()
