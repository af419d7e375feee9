"""A small server of one network: server.py FILE threads|prefork.  Prints its port; ends when its input is closed.

A request is one input as float32 bytes; the answer is the id of the process that gave it, and the output.
"""

import os
import signal
import socketserver
import sys
import threading

import numpy as np

from bayesbinn.runtime import Network, load

NUM_CHILDREN = 3


class Server(socketserver.TCPServer):
    request_queue_size = 64
    network: Network


class Answer(socketserver.StreamRequestHandler):
    server: Server

    def handle(self) -> None:
        network = self.server.network
        shape = network.program.input_shape
        while request := self.rfile.read(4 * int(np.prod(shape))):
            x = np.frombuffer(request, np.float32).reshape(1, *shape)
            self.wfile.write(os.getpid().to_bytes(4, "little") + network.run(x).tobytes())


class ThreadingServer(socketserver.ThreadingMixIn, Server):
    daemon_threads = True


def main(path: str, kind: str) -> None:
    network, prefork, children = load(path, threads=2), kind == "prefork", []
    network.run(np.zeros((64, *network.program.input_shape)))  # its threads are at work before a fork
    with (Server if prefork else ThreadingServer)(("127.0.0.1", 0), Answer) as server:
        server.network = network
        for _ in range(NUM_CHILDREN if prefork else 0):
            children.append(os.fork())
            if children[-1] == 0:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                server.serve_forever()
        if not prefork:
            threading.Thread(target=server.serve_forever, daemon=True).start()
        print(server.server_address[1], flush=True)
        sys.stdin.read()
        for pid in children:
            os.kill(pid, signal.SIGTERM)
            os.waitpid(pid, 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
