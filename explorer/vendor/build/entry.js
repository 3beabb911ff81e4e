// What the explorer's page takes from other people's libraries, and nothing else of them.
import "./language.js"; // before uPlot

export { Component, h, render } from "preact";
export { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
export { batch, computed, effect, signal, useComputed, useSignal, useSignalEffect } from "@preact/signals";
export { default as htm } from "htm";
export { default as uPlot } from "uplot";
export { sha256 } from "@noble/hashes/sha2.js";
export { Point, verify as verifySecp256k1 } from "@noble/secp256k1";
