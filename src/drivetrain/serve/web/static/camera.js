// "Take a photo": the phone's own camera app, or a dialog with the desktop's camera.

const byId = (id) => document.getElementById(id);

export async function offerCamera(onPhoto) {
  const button = byId("shoot");
  const isPhone = matchMedia("(pointer: coarse)").matches;
  if (isPhone) {
    button.hidden = false;
    button.addEventListener("click", () => byId("capture").click());
  } else if (await hasCamera()) {
    button.hidden = false;
    button.addEventListener("click", () => openDialog());
    byId("snap").addEventListener("click", () => snap(onPhoto));
    byId("camera-close").addEventListener("click", () => byId("camera").close());
    byId("camera").addEventListener("close", stop);
  }
}

async function hasCamera() {
  try {
    const devices = await navigator.mediaDevices.enumerateDevices(); // absent outside https and localhost
    return devices.some((device) => device.kind === "videoinput");
  } catch {
    return false;
  }
}

async function openDialog() {
  const note = byId("camera-note");
  note.textContent = "Your browser may ask whether this page may use the camera.";
  byId("snap").disabled = true;
  byId("camera").showModal();
  try {
    const stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 1920 } } });
    byId("viewfinder").srcObject = stream;
    if (!byId("camera").open) return stop(); // closed while the browser asked
    note.textContent = "";
    byId("snap").disabled = false;
    byId("snap").focus();
  } catch {
    note.textContent = "The camera cannot be used. Another program may hold it, or the browser was told no.";
  }
}

function snap(onPhoto) {
  const video = byId("viewfinder");
  const canvas = document.createElement("canvas");
  canvas.width = video.videoWidth;
  canvas.height = video.videoHeight;
  canvas.getContext("2d").drawImage(video, 0, 0);
  canvas.toBlob((blob) => {
    byId("camera").close();
    const time = new Date().toTimeString().slice(0, 8).replaceAll(":", "-");
    if (blob) onPhoto(new File([blob], `photo ${time}.jpg`, { type: "image/jpeg" }));
  }, "image/jpeg", 0.95);
}

function stop() {
  const video = byId("viewfinder");
  for (const track of video.srcObject?.getTracks() ?? []) track.stop();
  video.srcObject = null;
}
