// The line to the server: it is made again and again, and commands go beside it.
export function connect(on) {
  let pause = 500;
  const open = () => {
    on.link("wait");
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}/live`);
    socket.binaryType = "arraybuffer";
    socket.addEventListener("open", () => { pause = 500; on.link("live"); });
    socket.addEventListener("message", (event) => {
      if (typeof event.data === "string") on.message(JSON.parse(event.data)); else on.samples(event.data);
    });
    socket.addEventListener("close", () => {
      on.link("lost");
      setTimeout(open, pause);
      pause = Math.min(2 * pause, 5000);
    });
  };
  open();
}

export async function post(path, body) {
  const answer = await fetch(path, {
    method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body),
  });
  if (!answer.ok) throw new Error(await answer.text());
  return answer.json();
}

export async function role() {
  return (await fetch("/api/role")).json();
}
