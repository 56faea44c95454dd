// Preact, its hooks and htm under one roof, so that pages import from one place.
import { createContext, Fragment, h, render } from './vendor/preact.js';
import htm from './vendor/htm.js';

export { useCallback, useContext, useEffect, useId, useLayoutEffect, useMemo, useRef, useState } from './vendor/hooks.js';
export const html = htm.bind(h);
export { createContext, Fragment, render };
