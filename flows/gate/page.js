// Plays, with the picture of an example, the sound that is chosen for it. The picture has no sound of its own, and leads:
// sounds follow its time, its pauses and its pace. One example plays at a time.
"use strict";
const APART_S = 0.12; // as far apart as nobody notices
const videos = [...document.querySelectorAll(".example video")];
const sounds = [...document.querySelectorAll(".sounds audio")];

for (const video of videos) {
  const choices = [...video.closest(".example").querySelectorAll("input")];
  const chosen = () => document.getElementById(choices.find((choice) => choice.checked)?.value);
  const follow = () => {
    const sound = chosen();
    for (const other of sounds) if (other !== sound) other.pause();
    if (!sound) return;
    const time = Math.min(video.currentTime, sound.duration || Infinity);
    if (Math.abs(sound.currentTime - time) > APART_S) sound.currentTime = time;
    sound.playbackRate = video.playbackRate;
    const silent = video.paused || video.ended || video.seeking || time >= sound.duration;
    if (silent) sound.pause();
    else if (sound.paused) sound.play().catch(() => video.pause());
  };
  video.addEventListener("play", () => {
    for (const other of videos) if (other !== video) other.pause();
  });
  for (const name of ["playing", "pause", "ended", "seeking", "seeked", "ratechange", "timeupdate"]) {
    video.addEventListener(name, () => { if (name === "pause" || name === "ended" || !video.paused) follow(); });
  }
  video.addEventListener("waiting", () => chosen()?.pause());
  for (const choice of choices) choice.addEventListener("change", () => video.paused ? video.play() : follow());
}
