"""The C export as a library for the Arduino IDE (PlatformIO takes the same folder)."""

from .. import __version__


def to_arduino(files: dict[str, str], name: str = "net") -> dict[str, str]:
    """The files {path: text} of an Arduino library that holds the files of `to_c`, with an example sketch.

    >>> sorted(to_arduino({"net.h": "", "net.c": "", "Makefile": ""}))
    ['examples/net/net.ino', 'library.properties', 'src/net.c', 'src/net.h']
    """
    properties = f"""name={name}
version={__version__}
author=made by bayesbinn
maintainer=made by bayesbinn
sentence=A binary neural network as bits.
paragraph=One function, no heap, the same results bit for bit as on a computer.
category=Data Processing
url=
architectures=*
includes={name}.h
"""
    sketch = f"""#include <{name}.h>

static float x[{name.upper()}_INPUTS], y[{name.upper()}_OUTPUTS];

void setup() {{ Serial.begin(115200); }}

void loop() {{
  // fill x with one input, in the units of the training data
  unsigned long before = micros();
  {name}_run(x, y);
  Serial.print(micros() - before);
  Serial.print(" microseconds;");
  for (int i = 0; i < {name.upper()}_OUTPUTS; i++) {{
    Serial.print(' ');
    Serial.print(y[i]);
  }}
  Serial.println();
  delay(1000);
}}
"""
    sources = {f"src/{file}": files[file] for file in (f"{name}.h", f"{name}.c")}
    return {"library.properties": properties, **sources, f"examples/{name}/{name}.ino": sketch}
