// A photo from the camera of a computer; phones have their own way, which is better.

const find = (id) => document.getElementById(id);

export async function openCamera(onPhoto) {
  const dialog = find("camera"), video = find("video"), shoot = find("shoot");
  let stream;
  shoot.disabled = true;
  find("camera-status").textContent = "Waiting for the camera. The browser asks whether this page may use it.";
  find("cancel").onclick = () => dialog.close();
  dialog.onclose = () => {
    stream?.getTracks().forEach((track) => track.stop());
    video.srcObject = null;
  };
  dialog.showModal();
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment", width: { ideal: 1920 } } });
  } catch {
    find("camera-status").textContent = "There is no camera, or this page may not use it. Choose a photo instead.";
    return;
  }
  if (!dialog.open) return dialog.onclose();
  video.srcObject = stream;
  await video.play();
  find("camera-status").textContent = "";
  shoot.disabled = false;
  shoot.onclick = async () => {
    const canvas = new OffscreenCanvas(video.videoWidth, video.videoHeight);
    canvas.getContext("2d").drawImage(video, 0, 0);
    dialog.close();
    onPhoto(new File([await canvas.convertToBlob({ type: "image/png" })], "the photo"));
  };
}
