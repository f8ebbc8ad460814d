"""A telephone in a page, as far as signalling goes: SIP over WebSocket (RFC 7118), with nothing but
Python's own library. It takes calls at once, places them when it is told to on its standard input
("dial URI", "hangup", "ping"), sends a tone as G.711 and writes down what it hears.

What happens is told on its standard output, a line each: "registered", "refused 403", "established",
"ended", "closed 1001".
"""

import argparse
import base64
import hashlib
import math
import os
import queue
import random
import re
import socket
import ssl
import struct
import sys
import threading
import time
import wave

RATE = 8000
FRAME = 160  # samples of 20 ms


def token():
    return "%016x" % random.getrandbits(64)


def say(line):
    print(line, flush=True)


def ulaw(sample):
    """ITU-T G.711, by the segments of its table 2a."""
    sign = 0x80 if sample < 0 else 0
    magnitude = min(abs(sample), 32635) + 132
    exponent = max(magnitude.bit_length() - 8, 0)
    mantissa = (magnitude >> (exponent + 3)) & 15
    return ~(sign | exponent << 4 | mantissa) & 0xFF


def linear(octet):
    octet = ~octet & 0xFF
    magnitude = (((octet & 15) << 3) + 132 << (octet >> 4 & 7)) - 132
    return -magnitude if octet & 0x80 else magnitude


class WebSocket:
    """A client's end (RFC 6455)."""

    def __init__(self, options):
        self.stream = socket.create_connection((options.host, options.port), timeout=30)
        if options.tls:
            context = ssl._create_unverified_context()
            self.stream = context.wrap_socket(self.stream, server_hostname=options.host)
        key = base64.b64encode(os.urandom(16)).decode()
        head = "GET / HTTP/1.1\r\nHost: %s:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" % (
            options.host, options.port)
        head += "Sec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n" % key
        head += "Sec-WebSocket-Protocol: %s\r\n" % options.protocol
        if options.origin:
            head += "Origin: %s\r\n" % options.origin
        self.stream.sendall((head + "\r\n").encode())
        self.buffer = b""
        while b"\r\n\r\n" not in self.buffer:
            piece = self.stream.recv(4096)
            if not piece:
                break
            self.buffer += piece
        answer, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        status = answer.split(b" ")[1:2]
        if status != [b"101"]:
            say("refused %s" % (status[0].decode() if status else "without a word"))
            sys.exit(0)
        lines = dict(line.lower().split(": ", 1) for line in answer.decode().split("\r\n")[1:])
        assert lines["sec-websocket-protocol"] == "sip", lines
        proof = hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
        assert lines["sec-websocket-accept"] == base64.b64encode(proof).decode().lower(), lines
        self.stream.settimeout(None)
        self.sending = threading.Lock()
        self.binary = options.binary

    def send(self, opcode, payload):
        mask = os.urandom(4)
        head = bytes([0x80 | opcode])
        if len(payload) < 126:
            head += bytes([0x80 | len(payload)])
        else:
            head += bytes([0x80 | 126]) + struct.pack(">H", len(payload))
        masked = bytes(octet ^ mask[at % 4] for at, octet in enumerate(payload))
        with self.sending:
            self.stream.sendall(head + mask + masked)

    def say(self, message):
        self.send(2 if self.binary else 1, message.encode())

    def exactly(self, count):
        while len(self.buffer) < count:
            piece = self.stream.recv(65536)
            if not piece:
                raise EOFError
            self.buffer += piece
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken

    def messages(self):
        """What comes, a message each. They are never in fragments."""
        while True:
            first, second = self.exactly(2)
            assert first & 0x80 and not second & 0x80, (first, second)
            length = second
            if length == 126:
                (length,) = struct.unpack(">H", self.exactly(2))
            elif length == 127:
                (length,) = struct.unpack(">Q", self.exactly(8))
            payload = self.exactly(length)
            opcode = first & 15
            if opcode == 8:
                say("closed %d" % struct.unpack(">H", payload[:2]))
                return
            if opcode == 9:
                self.send(10, payload)
            elif opcode == 10:
                say("pong")
            else:
                assert opcode in (1, 2)
                yield payload.decode()


class Message:
    def __init__(self, text):
        head, _, self.body = text.partition("\r\n\r\n")
        self.start, *lines = head.split("\r\n")
        self.lines = [line.split(": ", 1) for line in lines]
        self.is_response = self.start.startswith("SIP/2.0 ")
        self.status = int(self.start[8:11]) if self.is_response else 0
        self.method = self["CSeq"].split()[1]

    def all(self, name):
        return [value for key, value in self.lines if key.lower() == name.lower()]

    def __getitem__(self, name):
        return (self.all(name) or [""])[0]


class Media:
    """A tone out, and what comes in."""

    def __init__(self, options):
        self.options = options
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        # Below the gateway's own ports, to which it sends nothing.
        for port in random.sample(range(25000, 28000), 100):
            try:
                self.socket.bind(("127.0.0.1", port))
                break
            except OSError:
                pass
        self.port = self.socket.getsockname()[1]
        self.heard = []
        self.sending = False

    def description(self):
        return ("v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
                "m=audio %d RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\na=ptime:20\r\n" % self.port)

    def begin(self, theirs):
        host = re.search(r"c=IN IP4 (\S+)", theirs).group(1)
        port = int(re.search(r"m=audio (\d+)", theirs).group(1))
        self.sending = True
        threading.Thread(target=self.talk, args=((host, port),), daemon=True).start()
        threading.Thread(target=self.listen, daemon=True).start()

    def talk(self, to):
        sequence, source, begun = 0, random.getrandbits(32), time.monotonic()
        while self.sending:
            at = sequence * FRAME
            turn = 2 * math.pi * self.options.tone / RATE
            sound = bytes(ulaw(int(12000 * math.sin(turn * n))) for n in range(at, at + FRAME))
            head = struct.pack(">BBHII", 0x80, 0, sequence & 0xFFFF, at & 0xFFFFFFFF, source)
            self.socket.sendto(head + sound, to)
            sequence += 1
            time.sleep(max(begun + sequence * 0.02 - time.monotonic(), 0))

    def listen(self):
        while True:
            packet = self.socket.recv(2048)
            if len(packet) > 12 and packet[1] & 0x7F == 0:
                self.heard.extend(linear(octet) for octet in packet[12:])

    def end(self):
        self.sending = False
        with wave.open(self.options.record, "wb") as file:
            file.setparams((1, 2, RATE, 0, "NONE", ""))
            file.writeframes(struct.pack("<%dh" % len(self.heard), *self.heard))


class Phone:
    def __init__(self, options):
        self.options = options
        self.socket = WebSocket(options)
        self.via = "%s.invalid" % token()
        word = "wss" if options.tls else "ws"
        self.contact = "<sip:%s@%s;transport=ws>" % (options.user, self.via)
        self.transport = word.upper()
        self.domain = options.host
        self.own = "<sip:%s@%s>" % (options.user, self.domain)
        self.instance = "<urn:uuid:00000000-0000-4000-8000-%012x>" % (options.instance or random.getrandbits(48))
        self.cseq = 0
        self.pending = None
        self.call = None
        self.media = None

    def request(self, method, uri, dialog, more="", body="", cseq=None):
        if cseq is None:
            self.cseq += 1
            cseq = self.cseq
        lines = [
            "%s %s SIP/2.0" % (method, uri),
            "Via: SIP/2.0/%s %s;branch=z9hG4bK%s" % (self.transport, self.via, token()),
            "Max-Forwards: 70",
            "From: %s" % dialog["from"],
            "To: %s" % dialog["to"],
            "Call-ID: %s" % dialog["id"],
            "CSeq: %d %s" % (cseq, method),
        ]
        if method != "ACK":
            flow = ";+sip.instance=\"%s\";reg-id=%d" % (self.instance, self.options.reg_id)
            flow = flow if method == "REGISTER" else ""
            lines.append("Contact: %s%s" % (self.contact, flow))
            lines.append("Supported: outbound, path")
        if body:
            lines.append("Content-Type: application/sdp")
        # No Content-Length: the message ends where its frame does.
        self.socket.say("\r\n".join(lines) + "\r\n" + more + "\r\n" + body)

    def digest(self, challenge, method, uri):
        value = dict(re.findall(r'(\w+)="?([^",]+)"?', challenge))
        assert value["algorithm"] == (self.options.algorithm or value["algorithm"]), value
        algorithm = {"MD5": "md5", "SHA-256": "sha256", "SHA-512-256": "sha512_256"}[value["algorithm"]]

        def hashed(*parts):
            return hashlib.new(algorithm, ":".join(parts).encode()).hexdigest()

        user, nonce, cnonce = self.options.user, value["nonce"], token()
        ha1 = hashed(user, value["realm"], self.options.password)
        response = hashed(ha1, nonce, "00000001", cnonce, "auth", hashed(method, uri))
        return ('Digest username="%s", realm="%s", nonce="%s", uri="%s", response="%s", algorithm=%s, '
                'qop=auth, nc=00000001, cnonce="%s"' % (
                    user, value["realm"], nonce, uri, response, value["algorithm"], cnonce))

    def ask(self, method, uri, dialog, body=""):
        """A request that may be challenged."""
        self.pending = (method, uri, dialog, body, False)
        self.request(method, uri, dialog, body=body)

    def again(self, response):
        method, uri, dialog, body, tried = self.pending
        if tried:
            return False
        self.pending = (method, uri, dialog, body, True)
        name = "Authorization" if response.status == 401 else "Proxy-Authorization"
        challenge = response["WWW-Authenticate"] or response["Proxy-Authenticate"]
        more = "%s: %s\r\n" % (name, self.digest(challenge, method, uri))
        self.request(method, uri, dialog, more, body)
        return True

    def dialog(self, to):
        return {"from": "%s;tag=%s" % (self.own, token()), "to": to, "id": token()}

    def register(self):
        self.ask("REGISTER", "sip:%s" % self.domain, self.dialog(self.own))

    def dial(self, uri):
        self.media = Media(self.options)
        self.call = {"uri": uri, "dialog": self.dialog("<%s>" % uri)}
        self.ask("INVITE", uri, self.call["dialog"], self.media.description())

    def response(self, message):
        if message.method == "INVITE" and message.status >= 200:
            dialog = dict(self.pending[2], to=message["To"])
            self.request("ACK", self.pending[1], dialog, cseq=int(message["CSeq"].split()[0]))
        if message.status in (401, 407) and self.again(message):
            return
        if message.method == "REGISTER" and message.status >= 200:
            say("registered" if message.status == 200 else "refused %d" % message.status)
            if message.status == 200:
                own = "reg-id=%d" % self.options.reg_id
                assert any(own in it for it in message.all("Contact")), message.lines
                assert "outbound" in message["Require"], message.lines
        elif message.method == "INVITE" and message.status == 200:
            self.call["dialog"]["to"] = message["To"]
            self.call["uri"] = re.search("<(.*?)>", message["Contact"]).group(1)
            self.media.begin(message.body)
            say("established")
        elif message.method == "INVITE" and message.status >= 300:
            say("failed %d" % message.status)
        elif message.method == "BYE":
            self.over()

    def answer(self, request, status, body=""):
        to = request["To"]
        if ";tag=" not in to:
            to += ";tag=%s" % token()
        lines = ["SIP/2.0 %d %s" % (status, {200: "OK", 180: "Ringing"}[status])]
        lines += ["Via: %s" % via for via in request.all("Via")]
        lines += ["From: %s" % request["From"], "To: %s" % to, "Call-ID: %s" % request["Call-ID"],
                  "CSeq: %s" % request["CSeq"], "Contact: %s" % self.contact]
        if body:
            lines.append("Content-Type: application/sdp")
        self.socket.say("\r\n".join(lines) + "\r\n\r\n" + body)
        return to

    def incoming(self, request):
        if request.method == "INVITE":
            assert " SIP/2.0" in request.start and ".invalid" in request.start, request.start
            assert "/%s " % self.transport in request["Via"], request["Via"]
            self.media = Media(self.options)
            to = self.answer(request, 200, self.media.description())
            contact = re.search("<(.*?)>", request["Contact"]).group(1)
            assert "transport=ws" in contact, contact
            dialog = {"from": to, "to": request["From"], "id": request["Call-ID"]}
            self.call = {"uri": contact, "dialog": dialog, "offer": request.body}
        elif request.method == "ACK":
            self.media.begin(self.call["offer"])
            say("established")
        else:
            self.answer(request, 200)
            if request.method == "BYE":
                self.over()

    def over(self):
        self.media.end()
        say("ended")

    def command(self, line):
        word, _, rest = line.strip().partition(" ")
        if word == "dial":
            self.dial(rest)
        elif word == "hangup":
            self.request("BYE", self.call["uri"], self.call["dialog"])
        elif word == "ping":
            self.socket.send(9, b"there?")
            self.socket.send(1, b"\r\n\r\n")

    def run(self):
        work = queue.Queue()

        def read(source, kind):
            try:
                for it in source:
                    work.put((kind, it))
            except (EOFError, OSError):
                pass
            work.put(("end", None))

        threading.Thread(target=read, args=(self.socket.messages(), "message"), daemon=True).start()
        threading.Thread(target=read, args=(sys.stdin, "command"), daemon=True).start()
        self.register()
        while True:
            kind, what = work.get()
            if kind == "end":
                return
            if kind == "command":
                self.command(what)
            elif what.strip("\r\n") == "":
                say("crlf")
            elif (message := Message(what)).is_response:
                self.response(message)
            else:
                self.incoming(message)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("user")
    parser.add_argument("password")
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--binary", action="store_true")
    parser.add_argument("--algorithm")
    parser.add_argument("--instance", type=int, default=0)
    parser.add_argument("--reg-id", type=int, default=1)
    parser.add_argument("--protocol", default="sip")
    parser.add_argument("--origin")
    parser.add_argument("--tone", type=int, default=620)
    parser.add_argument("--record", default="/dev/null")
    Phone(parser.parse_args()).run()


main()
